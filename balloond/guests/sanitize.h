// The one place where what guests and their VMMs say is judged. Pure.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "balloon/v1/guest_link.pb.h"
#include "balloond/clock.h"
#include "base/error.h"
#include "policy/types.h"

namespace balloon::daemon {

/// Rejects a registration that makes no sense. What is only too long to show is cut by the caller.
Result<void> check_registration(const v1::Register& registration);

/// 1 to 64 characters of A-Z a-z 0-9 . _ -, the first of which is neither . nor -
bool is_guest_name(std::string_view name);

/// Bounds sizes by boot memory; says whether it had to.
bool clamp_balloon(v1::BalloonUpdate& balloon, policy::Bytes memory);

/// `text` fit for logs and screens: what is not printable ASCII becomes '?', and what is too long is cut.
std::string printable(std::string_view text);

/// Unsets each value that is 2^64-1: what a driver that does not know a value sends.
void drop_unknown(v1::GuestStats& stats);

struct StatsContext {
  policy::Bytes memory = 0;                  ///< boot memory
  const v1::GuestStats* previous = nullptr;  ///< the message before, of the same boot
  WallTime wall;                             ///< when it was received
  Time now{};                                ///< the same, monotonic
};

/// What policy may act on, or why the message is nonsense. Expects drop_unknown to have been applied to
/// `stats` and `previous`. Sample times are carried over by their age at receipt: a future one counts as now.
Result<policy::GuestStats> usable_stats(const v1::GuestStats& stats, const StatsContext& context);

}  // namespace balloon::daemon
