// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/plans.h"

#include <algorithm>

#include "base/pages.h"

namespace balloon::policy::peers {

Plan hold(const Snapshot& snapshot) {
  Plan plan;
  plan.state = HostState::normal;
  plan.budget = snapshot.host.total;
  plan.guests.reserve(snapshot.guests.size());
  for (const GuestSnapshot& guest : snapshot.guests) {
    GuestPlan& mine = plan.guests.emplace_back();
    mine.name = guest.name;
    mine.state = guest.controllable ? GuestState::controlled : GuestState::booting;
    mine.need = mine.share = mine.target = std::min(guest.target, guest.memory);
    mine.reason = guest.controllable ? Reason::hold : Reason::stale;
  }
  plan.reservations.reserve(snapshot.reservations.size());
  for (const Reservation& reservation : snapshot.reservations) {
    plan.reservations.emplace_back().id = reservation.id;
  }
  return plan;
}

void ask(const GuestSnapshot& guest, double target, GuestPlan& plan) {
  if (!guest.controllable) return;
  const double bounded = std::clamp(target, 0.0, static_cast<double>(guest.memory));
  plan.target = plan.share =
      bounded < static_cast<double>(guest.memory) ? whole_pages(static_cast<Bytes>(bounded)) : guest.memory;
  plan.reason = Reason::share;
}

void grant_unseen(const Snapshot& snapshot, Promise promise, Plan& plan) {
  for (std::size_t i = 0; i < snapshot.reservations.size(); ++i) {
    const Reservation& reservation = snapshot.reservations[i];
    plan.reservations[i].state = GrantState::granted;
    plan.reservations[i].granted = promise == Promise::minimum ? reservation.min : reservation.max;
  }
}

}  // namespace balloon::policy::peers
