// SPDX-License-Identifier: Apache-2.0
// How much a device does for its guest before others get their turn.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/bytes.h"

namespace balloon::vmm {

/// A turn is one call of a device's queue handler. While it lasts, the device's mutex is held and no other
/// device on the loop is served; so it is bounded in chains, in bytes and in time, however large a guest
/// makes its requests. What a turn leaves over is done in the next one.
///
/// Counting costs nothing; the clock is read only where a device says that something took time.
class TurnBudget {
 public:
  using Clock = std::chrono::steady_clock;
  /// Half of a queue of 64: enough that the cost of a turn (two system calls) does not show.
  static constexpr int kChains = 32;
  /// Copied in some 0.1 ms.
  static constexpr Bytes kBytes = 256 * kKiB;
  /// Three devices on the main loop, each with a turn under way, stay far below what a person or a guest's
  /// driver notices (100 ms).
  static constexpr std::chrono::milliseconds kTime{2};

  explicit TurnBudget(Clock::time_point start = Clock::now(), Bytes bytes = kBytes)
      : bytes_(bytes), end_(start + kTime) {}

  /// A chain is taken.
  void take_chain() { --chains_; }
  /// Bytes of the guest are looked at, copied or handed on.
  void spend(Bytes bytes) { bytes_ -= std::min(bytes, bytes_); }
  /// Something was done that can take long: a system call.
  void look_at_clock(Clock::time_point now = Clock::now()) { late_ = late_ || now >= end_; }
  /// Time for others. The first piece of a turn may always go.
  bool over() const { return chains_ <= 0 || bytes_ == Bytes{0} || late_; }

 private:
  int chains_ = kChains;
  Bytes bytes_;
  bool late_ = false;
  Clock::time_point end_;
};

}  // namespace balloon::vmm
