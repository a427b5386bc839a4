#include "balloond/control/capacity.h"

#include <algorithm>

#include "policy/holdings.h"

namespace balloon::daemon {

using policy::above;
using policy::add;

namespace {

/// Bytes a second at which its balloon takes memory: as it was seen to, or as policy expects of one that has
/// not moved yet.
double speed_of(const GuestStatus& guest, double expected) {
  const auto& counters = guest.record.counters;
  return counters && counters->per_second > 0 ? static_cast<double>(counters->per_second) : expected;
}

}  // namespace

Capacity capacity_of(const State& state) {
  Capacity capacity{.needed = state.reserved};
  Bytes guaranteed = state.reserved;
  for (const GuestStatus& guest : state.guests) {
    capacity.needed = add(capacity.needed, guest.plan.need);
    guaranteed = add(guaranteed, floor_of(guest));
    if (guest.plan.state != policy::GuestState::controlled) continue;
    const Bytes idle = above(guest.actual, std::max(guest.plan.need, guest.limits.min));
    const double speed = speed_of(guest, state.balloon_speed);
    for (std::size_t i = 0; i < kHorizons.size(); ++i) {
      const double most = speed * static_cast<double>(kHorizons[i].time.count());
      capacity.reclaimable[i] += static_cast<double>(idle) < most ? idle : static_cast<Bytes>(most);
    }
  }
  capacity.headroom = above(state.budget, add(state.committed, state.reserved));
  capacity.bookable = above(state.budget, guaranteed);
  capacity.deficit = above(guaranteed, state.budget);
  return capacity;
}

}  // namespace balloon::daemon
