// SPDX-License-Identifier: Apache-2.0
// Frames from a tap into the guest's buffers, merged where one is not enough (virtio 1.2, 5.1.6.3, 5.1.6.4).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "vmm/devices/net/header.h"
#include "vmm/devices/net/tap.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/turn_budget.h"

namespace balloon::vmm {

/// What was negotiated, as it matters for a frame.
struct FrameShape {
  std::uint64_t features = 0;
  bool tap_header = false;  ///< whether the tap gives and takes a header
  std::size_t header_size() const { return vmm::header_size(features); }
  bool merge() const { return (features & net_feature::kMrgRxbuf) != 0; }
};

class Receiver {
 public:
  /// What a driver must offer room for when neither offloads nor merging let it do otherwise (5.1.6.3.1):
  /// 1500 bytes and the Ethernet header.
  static constexpr std::size_t kOrdinaryFrame = 1514;
  /// ETH_MAX_MTU, Ethernet header, VLAN tag: the largest that a tap gives or takes.
  static constexpr std::size_t kLargestFrame = 65553;

  Receiver();

  void start(const FrameShape& shape, std::uint16_t queue_size);
  /// For a reset: drops what it holds of the queue without a word to the guest.
  void forget();

  enum class Outcome {
    received,
    dropped,    ///< larger than the guest has room for
    tap_empty,  ///< nothing to receive
    starved,    ///< the guest has no buffers; it was asked for a kick
    turn_over,  ///< what the guest offers is of no use, and others have their turn: come back
    tap_failed,
  };
  /// Moves one frame; an error means that the guest broke the rules. The caller raises the interrupt.
  Result<Outcome> receive(VirtQueue& queue, const Tap& tap, TurnBudget& budget);
  /// Of the frame that receive() last took from the tap.
  std::size_t frame_size() const { return frame_; }
  /// Whether a frame that has been taken from the tap waits for more buffers: for a kick, that is, not the
  /// tap.
  bool waits() const { return rest_size_.has_value(); }
  /// Buffers returned at once since the last call, because no frame would have fitted.
  std::uint64_t take_malformed() { return std::exchange(malformed_, 0); }

 private:
  enum class Took { one, none, turn_over };
  Result<Took> take_buffer(VirtQueue& queue, TurnBudget& budget);
  Result<Took> gather(VirtQueue& queue, TurnBudget& budget);
  Outcome read_frame(const Tap& tap);
  Result<Outcome> finish(VirtQueue& queue, TurnBudget& budget);
  void deliver(VirtQueue& queue);
  void make_room();
  std::size_t held() const { return buffers_.size() - first_; }

  FrameShape shape_;
  std::uint64_t malformed_ = 0;
  /// Buffers taken from the queue and not yet returned: [first_, end). They wait for the next frame.
  std::vector<Chain> buffers_;
  std::vector<Chain> spare_;
  std::size_t first_ = 0;
  std::uint64_t room_ = 0;  ///< of these, the header included

  NetHeader header_;
  std::vector<iovec> part_;
  std::vector<iovec> iovecs_;
  std::vector<std::uint32_t> written_;
  std::size_t frame_ = 0;
  /// The rest of a frame for which the guest had too few buffers at the time.
  std::unique_ptr<std::byte[]> rest_;
  std::optional<std::size_t> rest_size_;
};

}  // namespace balloon::vmm
