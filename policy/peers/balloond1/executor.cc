// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/executor.h"

#include <algorithm>

#include "base/pages.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// A smaller part of a grow than this is not worth a message: it waits for more to be freed.
constexpr Bytes kWorthGranting = 4 * kMiB;

/// What a guest is counted at once its target is `target`. One that boots cannot be shrunk and has all of its
/// boot memory, but touched little of it: that, and the margin that the plan gives it, is what it takes of
/// the host.
Bytes counted(const GuestPlan& plan, const GuestSnapshot& guest, Bytes target) {
  const Bytes most = std::max(guest.actual, target);
  return plan.state == GuestState::booting ? std::min(most, plan.share) : most;
}

}  // namespace

std::vector<Move> admit(Plan& plan, std::span<const GuestSnapshot> guests) {
  std::vector<Move> moves;
  double committed = 0;  // Σ max(actual, target) once the shrinks are asked for
  double wanted = 0;     // what the grows would add to it
  for (const ReservationPlan& reservation : plan.reservations)
    committed += static_cast<double>(reservation.granted);
  for (std::size_t i = 0; i < guests.size(); ++i) {
    const GuestSnapshot& guest = guests[i];
    const Bytes target = plan.guests[i].target;
    const Bytes held = std::max(guest.actual, guest.target);
    committed += static_cast<double>(counted(plan.guests[i], guest, std::min(target, held)));
    if (target > held) wanted += static_cast<double>(target - held);
    if (guest.controllable && target < guest.target) moves.push_back({i, target});
  }
  const double room = std::max(0.0, static_cast<double>(plan.budget) - committed);
  const double part = wanted <= room ? 1.0 : room / wanted;
  for (std::size_t i = 0; i < guests.size(); ++i) {
    const GuestSnapshot& guest = guests[i];
    GuestPlan& mine = plan.guests[i];
    if (!guest.controllable || mine.target <= guest.target) continue;
    const Bytes held = std::max(guest.actual, guest.target);
    if (mine.target > held && part < 1.0) {
      const Bytes granted = whole_pages(static_cast<Bytes>(part * static_cast<double>(mine.target - held)));
      mine.target = held + (granted < kWorthGranting ? Bytes{0} : granted);
      mine.reason = Reason::waiting;
    }
    if (mine.target > guest.target) moves.push_back({i, mine.target});
  }
  return moves;
}

}  // namespace balloon::policy::peers::balloond1
