// SPDX-License-Identifier: Apache-2.0
// The daemon's two clocks, injectable so that tests decide what time it is.
#pragma once

#include <chrono>

#include "policy/types.h"

namespace balloon::daemon {

using policy::Time;
using WallTime = std::chrono::system_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic time: what durations are measured with.
  virtual Time now() const = 0;
  /// Wall time: what people and other processes are told.
  virtual WallTime wall() const = 0;
};

class SystemClock final : public Clock {
 public:
  Time now() const override { return std::chrono::steady_clock::now().time_since_epoch(); }
  WallTime wall() const override { return std::chrono::system_clock::now(); }
};

}  // namespace balloon::daemon
