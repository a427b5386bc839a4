// SPDX-License-Identifier: Apache-2.0
// The guest's frames to a tap (virtio 1.2, 5.1.6.2).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "vmm/devices/net/receiver.h"
#include "vmm/devices/net/tap.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {

class Sender {
 public:
  static constexpr std::size_t kSmallestFrame = 14;  ///< the Ethernet header alone (ETH_HLEN)

  void start(const FrameShape& shape) { shape_ = shape; }

  enum class Outcome {
    sent,
    malformed,  ///< no header, no plausible size, or a header that asks for what was not negotiated
    dropped,    ///< the tap did not take it
  };
  Outcome send(const Chain& chain, const Tap& tap);
  /// Of the frame that send() last saw.
  std::uint64_t frame_size() const { return frame_; }

 private:
  FrameShape shape_;
  NetHeader header_;
  std::uint64_t frame_ = 0;
  std::vector<iovec> part_;
  std::vector<iovec> iovecs_;
};

}  // namespace balloon::vmm
