// SPDX-License-Identifier: Apache-2.0
// The two-phase rule, pure: shrinks first; a grow only when what pays for it has really been freed.
#pragma once

#include <span>
#include <vector>

#include "policy/types.h"

namespace balloon::policy {

/// One balloon to move now.
struct Move {
  std::size_t guest = 0;  ///< index into the snapshot's guests
  Bytes target{};
};

/// The moves of `plan` that may be made now: shrinks first, then grows, as far as Σ max(actual, target) and
/// what is kept for reservations stay within plan.budget. When not all grows fit, each gets the same part of
/// what it misses, the rest when more has been freed; such guests get Reason::waiting and the granted target
/// in `plan`. O(n).
std::vector<Move> admit(Plan& plan, std::span<const GuestSnapshot> guests);

}  // namespace balloon::policy
