// SPDX-License-Identifier: Apache-2.0
// Why a target is what it is: the nearest thing that would have changed it, and the whole as a sentence.
#pragma once

#include <string>

#include "policy/types.h"

namespace balloon::policy {

/// What bounds a guest's target beside what plan and snapshot say.
struct Constraints {
  bool group_full = false;  ///< its group has all that it may have
  Bytes deadband{};
  std::chrono::nanoseconds held_for{};      ///< how much longer nothing is taken from it
  bool grows = false;                       ///< nothing is, while its use or its page cache rises
  double shrink_per_second = 0;             ///< bytes
  std::chrono::nanoseconds foretold_max{};  ///< nothing further off is foretold
};

/// The next-best alternative for a guest whose target and reason stand in `mine`.
Alternative alternative_to(const GuestPlan& mine, const GuestSnapshot& seen, const Constraints& constraints);

/// Whether a plan says what its guest uses. Of one that is judged by what the host sees, only what it has
/// touched is known.
bool knows_use(const GuestPlan& guest);

/// Whether a plan's need is what its guest should have. Of one that cannot be judged or moved it is what it
/// counts with.
bool knows_need(const GuestPlan& guest);

/// A plan's guest in sentences, with the figures. `actual` is the size that it had, `budget` the plan's.
/// `why_held` says why its size is held, where the caller knows more of that than the plan. For whoever asks:
/// it takes longer than the decision.
std::string explain(const GuestPlan& guest, const GuestLimits& limits, Bytes actual, Bytes budget,
                    const std::string& why_held = "");

}  // namespace balloon::policy
