// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/budget.h"

#include <algorithm>

#include "base/pages.h"

namespace balloon::policy::peers::balloond1 {

Bytes Budget::update(const Snapshot& snapshot, double elapsed, const Tunables& tunables) {
  const HostSnapshot& host = snapshot.host;
  const auto total = static_cast<double>(host.total);
  double resident = 0;
  for (const GuestSnapshot& guest : snapshot.guests)
    resident += static_cast<double>(std::min(guest.on_host.resident, guest.actual));
  // A merged page counts as resident in every guest that has it, but is there once: what is saved shows up as
  // available already. So it is taken off here, and then lent in part.
  const double saved = host.ksm ? std::min(static_cast<double>(host.ksm->sharing), resident) : 0.0;
  double raw = static_cast<double>(std::min(host.available, host.total)) + resident - saved;
  raw = std::min(raw, total) + saved * std::clamp(tunables.ksm_credit, 0.0, 1.0);
  raw = std::max(raw - static_cast<double>(tunables.host_reserve), 0.0);
  const double rise = tunables.budget_rise_ratio_per_second * total * elapsed;
  budget_ = budget_ ? std::min(raw, *budget_ + rise) : raw;
  return whole_pages(static_cast<Bytes>(*budget_));
}

}  // namespace balloon::policy::peers::balloond1
