// SPDX-License-Identifier: Apache-2.0
// Why a target is what it is: the nearest thing that would have changed it, and the whole as a sentence.
#pragma once

#include <string>

#include "policy/types.h"

namespace balloon::policy {

/// What bounds a guest's target beside what plan and snapshot say.
struct Constraints {
  bool group_full = false;  ///< its group has all that it may have
  Bytes deadband = 0;
  std::chrono::nanoseconds held_for{};  ///< how much longer nothing is taken from it
  bool outgrows = false;                ///< nothing is, while its use rises: its balloon is too slow for that
  double shrink_per_second = 0;         ///< bytes
  std::chrono::nanoseconds foretold_max{};  ///< nothing further off is foretold
};

/// The next-best alternative for a guest whose target and reason stand in `mine`.
Alternative alternative_to(const GuestPlan& mine, const GuestSnapshot& seen, const Constraints& constraints);

/// A plan's guest in a sentence, with the figures. `actual` is the size that it had, `budget` the plan's. For
/// whoever asks: it takes longer than the decision.
std::string explain(const GuestPlan& guest, const GuestLimits& limits, Bytes actual, Bytes budget);

}  // namespace balloon::policy
