// SPDX-License-Identifier: Apache-2.0
// The time, and what wakes a loop once some of it has passed: injectable, so that tests decide what time it
// is.
#pragma once

#include <chrono>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

class Clock {
 public:
  using Time = std::chrono::steady_clock::time_point;

  virtual ~Clock() = default;
  virtual Time now() const = 0;
  /// A descriptor that is readable when what was set for it has passed; what is read is how often it has.
  virtual Result<UniqueFd> alarm() = 0;
  /// First after `interval`, then every `interval`; zero or less: not at all. Callable from any thread.
  virtual void set(int alarm, std::chrono::nanoseconds interval) = 0;
  /// To be called before an alarm is closed.
  virtual void forget(int alarm) = 0;

  /// Linux' monotonic clock.
  static Clock& system();
};

}  // namespace balloon::vmm
