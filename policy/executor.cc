// SPDX-License-Identifier: Apache-2.0
#include "policy/executor.h"

#include <algorithm>

#include "base/pages.h"
#include "policy/holdings.h"
#include "policy/tunables.h"

namespace balloon::policy {
namespace {

/// The largest target at which the guest counts for no more than it does now.
Bytes grown_for_nothing(const GuestPlan& plan, const GuestSnapshot& guest) {
  return is_promised(plan.state) ? counted(plan, guest, guest.target) : held(guest);
}

}  // namespace

std::vector<Move> admit(Plan& plan, std::span<const GuestSnapshot> guests) {
  std::vector<Move> moves;
  double committed = 0;  // what all are counted at once the shrinks are asked for
  double wanted = 0;     // what the grows would add to it
  for (const ReservationPlan& reservation : plan.reservations)
    committed += static_cast<double>(reservation.granted);
  for (std::size_t i = 0; i < guests.size(); ++i) {
    const GuestSnapshot& guest = guests[i];
    const Bytes target = plan.guests[i].target;
    const Bytes has = grown_for_nothing(plan.guests[i], guest);
    committed += static_cast<double>(counted(plan.guests[i], guest, std::min(target, has)));
    if (target > has) wanted += static_cast<double>(target - has);
    if (guest.controllable && target < guest.target) moves.push_back({i, target});
  }
  const double room = std::max(0.0, static_cast<double>(plan.budget) - committed);
  const double part = wanted <= room ? 1.0 : room / wanted;
  for (std::size_t i = 0; i < guests.size(); ++i) {
    const GuestSnapshot& guest = guests[i];
    GuestPlan& mine = plan.guests[i];
    if (!guest.controllable || mine.target <= guest.target) continue;
    const Bytes has = grown_for_nothing(mine, guest);
    if (mine.target > has && part < 1.0) {
      const Bytes granted = whole_pages(static_cast<Bytes>(part * static_cast<double>(mine.target - has)));
      mine.target = has + (granted < kWorthGranting ? Bytes{0} : granted);
      mine.reason = Reason::waiting;
    }
    if (mine.target > guest.target) moves.push_back({i, mine.target});
  }
  return moves;
}

}  // namespace balloon::policy
