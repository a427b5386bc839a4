// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/law.h"

#include "policy/peers/balloond1/engine.h"
#include "policy/peers/balloond1/tunables.h"
#include "policy/peers/balloond1/urgency.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// What a scenario can set (docs/simulator.md, "tunables").
Tunables tunables_for(const policy::Tunables& asked) {
  static const policy::Tunables today;
  Tunables mine;
  const auto take = [&](auto policy::Tunables::* theirs, auto Tunables::* ours) {
    if (asked.*theirs != today.*theirs) mine.*ours = asked.*theirs;
  };
  take(&policy::Tunables::host_reserve, &Tunables::host_reserve);
  take(&policy::Tunables::margin_ratio, &Tunables::margin_ratio);
  take(&policy::Tunables::margin_min, &Tunables::margin_min);
  take(&policy::Tunables::stale_after, &Tunables::stale_after);
  take(&policy::Tunables::stuck_after, &Tunables::stuck_after);
  if (asked.surplus == policy::Surplus::guests) mine.surplus = Surplus::guests;
  return mine;
}

}  // namespace

std::unique_ptr<Controller> make(const policy::Tunables& asked) {
  return std::make_unique<Engine>(tunables_for(asked));
}

bool is_urgent(const UseSample& sample, const policy::Tunables& asked) {
  const Tunables mine = tunables_for(asked);
  return balloond1::is_urgent(sample, mine.margin_min, mine.margin_ratio);
}

}  // namespace balloon::policy::peers::balloond1
