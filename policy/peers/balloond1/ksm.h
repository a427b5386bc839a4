// SPDX-License-Identifier: Apache-2.0
// Kernel samepage merging as a second source of memory: when to run it, and how hard.
#pragma once

#include <optional>

#include "policy/peers/balloond1/tunables.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

class KsmGovernor {
 public:
  /// Unset when the host has no KSM, or it is not the plan's to run. Merging runs while memory is short
  /// (`needed` of plan.budget) or the host's state says so; it stops without unmerging anything: what was
  /// merged stays merged.
  std::optional<KsmPlan> update(const Snapshot& snapshot, const Plan& plan, double needed,
                                const Tunables& tunables);

 private:
  std::optional<bool> run_;
};

}  // namespace balloon::policy::peers::balloond1
