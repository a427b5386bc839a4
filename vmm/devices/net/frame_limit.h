// SPDX-License-Identifier: Apache-2.0
// The rate limit of one direction: bytes and frames, whichever is reached first.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "vmm/devices/net/net_config.h"
#include "vmm/virtio/token_bucket.h"

namespace balloon::vmm {

class FrameLimit {
 public:
  explicit FrameLimit(const NetRate& rate)
      : limits_(rate.limits()),
        bytes_(rate.bytes.count(), rate.bytes_burst.count()),
        frames_(rate.frames, rate.frames_burst) {}

  bool limits() const { return limits_; }
  /// How long until a frame may go; zero: now.
  std::chrono::nanoseconds wait(TokenBucket::Clock::time_point now) {
    return std::max(bytes_.wait(now), frames_.wait(now));
  }
  void spend(std::uint64_t bytes) {
    bytes_.spend(bytes);
    frames_.spend(1);
  }

 private:
  bool limits_;
  TokenBucket bytes_;
  TokenBucket frames_;
};

}  // namespace balloon::vmm
