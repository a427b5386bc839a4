// SPDX-License-Identifier: Apache-2.0
// How much memory the guests may have altogether.
#pragma once

#include <optional>

#include "policy/peers/balloond1/tunables.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

class Budget {
 public:
  /// What guests hold in RAM now and what the host could still give, less the reserve; with the part of KSM's
  /// profit that may be lent, once. Memory in host swap is not counted, and of a guest's process no more than
  /// the guest's size (the rest is the VMM's own). Falls at once, rises by budget_rise_ratio_per_second.
  Bytes update(const Snapshot& snapshot, double elapsed, const Tunables& tunables);

 private:
  std::optional<double> budget_;
};

}  // namespace balloon::policy::peers::balloond1
