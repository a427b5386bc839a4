// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/vm0.h"

#include <algorithm>

#include "policy/peers/plans.h"
#include "policy/peers/readings.h"

namespace balloon::policy::peers {

Plan Vm0::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  grant_unseen(snapshot, Promise::maximum, plan);
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) balance(snapshot.guests[i], plan.guests[i]);
  return plan;
}

void Vm0::balance(const GuestSnapshot& guest, GuestPlan& plan) const {
  const auto free = reported_free(guest);
  const auto available = guest.stats ? known(guest.stats->available) : std::nullopt;
  if (!free || !available || !guest.controllable) {
    if (guest.controllable) plan.state = GuestState::stale;
    return;
  }
  // All at once: a guest that got back a part only, and then stalled, has died of it.
  if (*available < static_cast<double>(settings_.deflate_below)) {
    ask(guest, static_cast<double>(guest.memory), plan);
    return;
  }
  if (*free <= static_cast<double>(settings_.inflate_above)) return;
  const auto memory = static_cast<double>(guest.memory);
  const double give =
      std::min(*free - static_cast<double>(settings_.keep_free), static_cast<double>(settings_.step));
  const double balloon = std::min(
      std::max(memory - static_cast<double>(guest.target), memory - static_cast<double>(guest.actual) + give),
      memory - static_cast<double>(std::min(settings_.least, guest.memory)));
  if (memory - balloon < static_cast<double>(guest.target)) ask(guest, memory - balloon, plan);
}

}  // namespace balloon::policy::peers
