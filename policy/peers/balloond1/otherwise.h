// SPDX-License-Identifier: Apache-2.0
// The nearest thing that would have changed a target.
#pragma once

#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

/// What the engine knows of a guest beside plan and snapshot.
struct Outlook {
  bool group_full = false;  ///< its group has all that it may have
  Bytes deadband{};
  std::chrono::nanoseconds held_for{};  ///< how much longer nothing is taken from it
  bool outgrows = false;                ///< nothing is, while its use rises: its balloon is too slow for that
  double shrink_per_second = 0;         ///< bytes
};

/// The next-best alternative for a guest whose target and reason stand in `mine`.
Alternative what_else(const GuestPlan& mine, const GuestSnapshot& seen, const Outlook& outlook);

}  // namespace balloon::policy::peers::balloond1
