// SPDX-License-Identifier: Apache-2.0
// The one place where what guests and their hypervisors say is judged. Pure.
#pragma once

#include <string>
#include <string_view>

#include "balloond/clock.h"
#include "balloond/guests/guest.h"
#include "base/error.h"

namespace balloon::daemon {

/// Rejects a registration that makes no sense. What is only too long to show is cut by the caller.
Result<void> check_registration(const Registration& registration);

/// 1 to 64 characters of A-Z a-z 0-9 . _ -, the first of which is neither . nor -
bool is_guest_name(std::string_view name);

/// A guest's name made of any text: what it may not have becomes '_'. Empty when nothing is left.
std::string guest_name_of(std::string_view text);

/// Bounds sizes by boot memory; says whether it had to.
bool clamp_balloon(BalloonState& balloon, Bytes memory);

/// `text` fit for logs and screens: what is not printable ASCII becomes '?', and what is too long is cut.
std::string printable(std::string_view text);

/// Unsets each value that is 2^64-1: what a driver that does not know a value sends.
void drop_unknown(StatsSample& stats);

struct StatsContext {
  Bytes memory{};                         ///< boot memory
  const StatsSample* previous = nullptr;  ///< the message before, of the same boot
  WallTime wall;                          ///< when it was received
  Time now{};                             ///< the same, monotonic
};

/// What policy may act on, or why the message is nonsense. Expects drop_unknown to have been applied to
/// `stats` and `previous`. A counter that went back is left out. Sample times are carried over by their age
/// at receipt: a future one counts as now.
Result<policy::GuestStats> usable_stats(const StatsSample& stats, const StatsContext& context);

}  // namespace balloon::daemon
