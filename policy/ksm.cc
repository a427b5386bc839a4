// SPDX-License-Identifier: Apache-2.0
#include "policy/ksm.h"

#include <algorithm>
#include <cmath>

#include "base/pages.h"
#include "policy/host_state.h"
#include "policy/rate.h"

namespace balloon::policy {
std::optional<KsmPlan> KsmGovernor::update(const Snapshot& snapshot, const Plan& plan, double needed,
                                           const Tunables& tunables) {
  if (!snapshot.host.ksm || !snapshot.host.ksm->controllable) {
    run_.reset();
    return std::nullopt;
  }
  const KsmSnapshot& ksm = *snapshot.host.ksm;
  const Constants& constants = tunables.constants;
  double mergeable = 0;  // of guests that take part
  for (const GuestSnapshot& guest : snapshot.guests) {
    if (guest.limits.ksm && guest.on_host.merging)
      mergeable += static_cast<double>(std::min(guest.on_host.resident, guest.memory));
  }
  const double left = static_cast<double>(plan.budget) - needed;
  const double start = tunables.ksm_ratio * static_cast<double>(snapshot.host.total);
  const bool was = run_.value_or(ksm.running);
  const bool wanted = actions_in(plan.level, tunables.actions).ksm ||
                      left < (was ? constants.ksm_stop_factor * start : start);
  run_ = wanted && mergeable > 0;

  const bool short_of_memory = plan.level == HostState::critical || plan.level == HostState::emergency;
  double scan = seconds(short_of_memory ? tunables.ksm_scan_critical : tunables.ksm_scan);
  const auto looked_at = static_cast<double>(ksm.unshared) + static_cast<double>(ksm.sharing);
  if (looked_at > constants.ksm_vain_after_ratio * mergeable &&
      static_cast<double>(ksm.sharing) < constants.ksm_vain_ratio * looked_at)
    scan *= constants.ksm_vain_slower;
  const double pages =
      mergeable / static_cast<double>(kPageSize) * seconds(constants.ksm_sleep) / std::max(scan, 1.0);
  KsmPlan out;
  out.run = *run_;
  out.sleep = constants.ksm_sleep;
  out.pages_to_scan = static_cast<std::uint64_t>(
      std::clamp(std::ceil(pages / constants.ksm_pages_step) * constants.ksm_pages_step,
                 constants.ksm_pages_min, constants.ksm_pages_max));
  return out;
}

}  // namespace balloon::policy
