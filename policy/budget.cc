// SPDX-License-Identifier: Apache-2.0
#include "policy/budget.h"

#include <algorithm>

#include "base/pages.h"
#include "policy/holdings.h"

namespace balloon::policy {
Bytes Budget::update(const Snapshot& snapshot, const GuestsInWant& guests, double elapsed,
                     const Tunables& tunables) {
  const HostSnapshot& host = snapshot.host;
  const auto total = static_cast<double>(host.total);
  double resident = 0;
  double asked = 0;
  for (const GuestSnapshot& guest : snapshot.guests) {
    resident += static_cast<double>(std::min(guest.on_host.resident, guest.actual));
    asked += static_cast<double>(held(guest));
  }
  // A merged page counts as resident in every guest that has it, but is there once: what is saved shows up as
  // available already. So it is taken off here, and then lent in part.
  const double saved = host.ksm ? std::min(static_cast<double>(host.ksm->sharing), resident) : 0.0;
  // What is promised to guests to be has to be there: an ARC gives way only once memory is short.
  const Bytes there = snapshot.reservations.empty() ? obtainable(host) : host.available;
  const auto available = static_cast<double>(std::min(there, host.total));
  const double guests_have = resident - saved;
  const Reserve::Use use{.own = total - available - guests_have, .spare = available + guests_have - asked};
  const double reserve = keeping_.update(host, use, guests, elapsed, tunables);
  reserve_ = static_cast<Bytes>(reserve);
  double raw = available + guests_have;
  raw = std::min(raw, total) + saved * std::clamp(tunables.ksm_credit, 0.0, 1.0);
  most_ = whole_pages(static_cast<Bytes>(raw));
  raw = std::max(raw - reserve, 0.0);
  const double rise = tunables.budget_rise_ratio_per_second * total * elapsed;
  budget_ = budget_ ? std::min(raw, *budget_ + rise) : raw;
  return whole_pages(static_cast<Bytes>(*budget_));
}

}  // namespace balloon::policy
