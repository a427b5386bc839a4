// SPDX-License-Identifier: Apache-2.0
// Times as the daemon's files have them.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <string_view>

#include "balloond/clock.h"
#include "base/error.h"

namespace balloon::daemon {

/// When something is read or written, by three clocks.
struct Moment {
  Time now{};
  WallTime wall{};
  std::string boot{};  ///< of the host, which `now` counts from; empty: not known
};

/// "1f2e...": another after each boot of the host; empty when the kernel does not say.
std::string boot_id();

/// Year 2255: what is before it can be counted in nanoseconds.
inline constexpr std::int64_t kStoredSecondsMax = 9'000'000'000;

/// Timestamps and durations are alike.
template <typename Message>
void put_time(Message& out, std::chrono::nanoseconds time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  out.set_seconds(whole.count());
  out.set_nanos(static_cast<std::int32_t>((time - whole).count()));
}

template <typename Message>
Result<std::chrono::nanoseconds> take_time(const Message& sent, std::string_view what) {
  constexpr std::int64_t kNanosMax = 999'999'999;
  if (sent.seconds() < 0 || sent.seconds() > kStoredSecondsMax || sent.nanos() < 0 ||
      sent.nanos() > kNanosMax)
    return fail(fmt::format("its {} is out of range", what));
  return std::chrono::seconds(sent.seconds()) + std::chrono::nanoseconds(sent.nanos());
}

inline WallTime wall_at(std::chrono::nanoseconds since_epoch) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(since_epoch));
}

}  // namespace balloon::daemon
