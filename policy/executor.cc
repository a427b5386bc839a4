#include "policy/executor.h"

#include <algorithm>

namespace balloon::policy {
namespace {

constexpr Bytes kPage = 4096;
/// A smaller part of a grow than this is not worth a message: it waits for more to be freed.
constexpr Bytes kWorthGranting = 4ULL << 20;

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
    committed +=
        static_cast<double>(std::max(guest.actual, std::min(target, std::max(guest.actual, guest.target))));
    const Bytes held = std::max(guest.actual, guest.target);
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
      const Bytes granted =
          static_cast<Bytes>(part * static_cast<double>(mine.target - held)) / kPage * kPage;
      mine.target = held + (granted < kWorthGranting ? 0 : granted);
      mine.reason = Reason::waiting;
    }
    if (mine.target > guest.target) moves.push_back({i, mine.target});
  }
  return moves;
}

}  // namespace balloon::policy
