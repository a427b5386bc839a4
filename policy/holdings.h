// SPDX-License-Identifier: Apache-2.0
// What a guest holds of the host's memory.
#pragma once

#include <algorithm>

#include "policy/types.h"

namespace balloon::policy {

/// What the guest holds or was promised.
inline Bytes held(const GuestSnapshot& guest) { return std::max(guest.actual, guest.target); }

/// Whether what a guest was asked to be is a promise to it. Of others it is only known what they have.
inline bool is_promised(GuestState state) {
  return state == GuestState::controlled || state == GuestState::pinned;
}

/// What of the host's memory a guest takes, once its target is `target`: what it was promised, or what it has
/// and has touched or may soon, if that is more. In one that cannot be judged or moved what it did not touch
/// is there for others, whatever its size. Should it take that after all, the reserve and the shrinking of
/// others have to make up for it.
inline Bytes counted(const GuestPlan& plan, const GuestSnapshot& guest, Bytes target) {
  const Bytes touched = above(std::max(guest.actual, target), plan.untouched);
  return is_promised(plan.state) ? std::max(touched, target) : touched;
}

/// What of the host's memory guests have been promised, or hold, once all shrinks of the plan and none of its
/// growths are asked for; with what is granted for guests to be. A guest of which the host sees no process is
/// left out: the process has ended, or nobody knows what it holds.
inline Bytes committed(const Plan& plan, const std::vector<GuestSnapshot>& guests) {
  Bytes all{};
  for (std::size_t i = 0; i < std::min(plan.guests.size(), guests.size()); ++i) {
    const GuestSnapshot& guest = guests[i];
    const GuestPlan& planned = plan.guests[i];
    if (guest.on_host.resident == Bytes{0}) continue;
    all =
        add(all, is_promised(planned.state) ? counted(planned, guest, std::min(guest.target, planned.target))
                                            : std::min(guest.on_host.resident, guest.actual));
  }
  for (const ReservationPlan& reservation : plan.reservations) all = add(all, reservation.granted);
  return all;
}

/// Where the guest will be, at most, once the shrink that was asked of it is done.
inline Bytes settling_at(const GuestSnapshot& guest) { return std::min(guest.actual, guest.target); }

}  // namespace balloon::policy
