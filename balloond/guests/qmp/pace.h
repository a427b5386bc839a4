// SPDX-License-Identifier: Apache-2.0
// When a QEMU is asked next. Pure.
#pragma once

#include <chrono>
#include <optional>

#include "balloond/clock.h"
#include "policy/types.h"

namespace balloon::daemon::qmp {

using policy::Bytes;

/// While its balloon moves, a guest on a socket of our own is asked this often: its statistics must be
/// matched with the size that it had, and that is known as exactly as it is asked for.
inline constexpr std::chrono::nanoseconds kMovingPeriod = std::chrono::milliseconds(250);
/// A balloon that has not moved for this long is asked about as one at rest, wherever it stands.
inline constexpr std::chrono::nanoseconds kRestAfter = std::chrono::seconds(3);
/// What seldom changes is asked for this often.
inline constexpr std::chrono::nanoseconds kSeldomPeriod = std::chrono::seconds(10);
/// A shared socket is taken this often at rest. Policy holds a guest whose statistics are older than 10 s
/// (stale_after); they are up to 1 s old when QEMU gives them, and a busy socket takes another second.
inline constexpr std::chrono::nanoseconds kSharedRestPeriod = std::chrono::seconds(8);
/// And this often at most, whatever happens.
inline constexpr std::chrono::nanoseconds kSharedPeriod = std::chrono::seconds(2);
/// While its guest is migrated, backed up or put into a snapshot the socket is its owner's: this is often
/// enough to see that it is over.
inline constexpr std::chrono::nanoseconds kSharedOwnersPeriod = std::chrono::seconds(30);
/// A shared socket is given back after this, answered or not.
inline constexpr std::chrono::nanoseconds kSharedHold = std::chrono::milliseconds(200);
/// The host is short of memory for this long after it asked for fresh statistics.
inline constexpr std::chrono::nanoseconds kHurryFor = std::chrono::seconds(10);
/// A target that was asked for is looked after for this long, though the balloon may not have moved yet.
inline constexpr std::chrono::nanoseconds kOnItsWay = std::chrono::seconds(30);
/// A socket that cannot be talked to is tried again after the first, then after twice as long each time.
inline constexpr std::chrono::nanoseconds kRetryFirst = std::chrono::milliseconds(250);
inline constexpr std::chrono::nanoseconds kRetryMax = std::chrono::seconds(8);

/// Follows one balloon to tell whether it moves.
class Movement {
 public:
  /// Returns whether the size differs from the one before.
  bool note(Bytes actual, Time now) {
    const bool moved = actual_ && *actual_ != actual;
    if (moved) moved_at_ = now;
    actual_ = actual;
    return moved;
  }
  bool moving(Time now) const { return moved_at_ && now - *moved_at_ < kRestAfter; }
  bool known() const { return actual_.has_value(); }

 private:
  std::optional<Bytes> actual_;
  std::optional<Time> moved_at_;
};

/// A guest whose memory is nearly used up, or that took or gave much since the last look, is looked at
/// sooner.
inline bool is_lively(Bytes actual, std::optional<Bytes> available, std::optional<Bytes> available_before) {
  constexpr unsigned kNearlyUsedUp = 8;  // less than one eighth is left
  constexpr unsigned kMuch = 32;         // one thirty-second
  if (!available) return false;
  if (*available < actual / kNearlyUsedUp) return true;
  if (!available_before) return false;
  const Bytes change =
      *available > *available_before ? *available - *available_before : *available_before - *available;
  return change > actual / kMuch;
}

}  // namespace balloon::daemon::qmp
