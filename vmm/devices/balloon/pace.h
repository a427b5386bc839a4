// SPDX-License-Identifier: Apache-2.0
// How fast a balloon moves, and when it stands still away from its target. Pure.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/bytes.h"

namespace balloon::vmm {

class BalloonPace {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// Linux retries 200 ms after it found no page to give (drivers/virtio/virtio_balloon.c); ten such tries
  /// in vain are a stall.
  static constexpr std::chrono::seconds kStall{2};

  /// The balloon is, or is still, here.
  void at(Time now, Bytes actual, Bytes target);
  /// Bytes a second, either way, from the first to the last step of the move under way or, when there is
  /// none, of the last one.
  std::uint64_t rate() const;
  std::uint64_t stalls() const { return stalls_; }

 private:
  Bytes actual_{};
  Bytes target_{};
  bool moving_ = false;
  Bytes moved_{};
  Time started_{};
  Time last_step_{};
  bool stalled_ = false;
  std::uint64_t stalls_ = 0;
};

}  // namespace balloon::vmm
