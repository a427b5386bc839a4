#include "policy/peers/baselines.h"

#include <algorithm>

#include "policy/peers/plans.h"
#include "policy/tunables.h"
#include "policy/water_filling.h"

namespace balloon::policy::peers {
namespace {

/// What guests can have together: all but what the host's own processes use, and the reserve that our engine
/// keeps too, so that both have the same to divide.
Bytes divisible(const Snapshot& snapshot) {
  const HostSnapshot& host = snapshot.host;
  Bytes held = 0;
  for (const GuestSnapshot& guest : snapshot.guests) held += std::min(guest.on_host.resident, guest.memory);
  const Bytes reserve = Tunables{}.host_reserve;
  const Bytes all = std::min(host.total, std::min(host.available, host.total) + held);
  return all > reserve ? all - reserve : 0;
}

}  // namespace

Plan NoBalloon::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    ask(guest, static_cast<double>(guest.memory), plan.guests[i]);
  }
  grant_unseen(snapshot, Promise::maximum, plan);
  return plan;
}

Plan StaticPartition::decide(const Snapshot& snapshot) {
  if (!budget_) budget_ = divisible(snapshot);
  const bool same = std::ranges::equal(names_, snapshot.guests, {}, {}, &GuestSnapshot::name);
  if (!same) divide(snapshot);
  Plan plan = hold(snapshot);
  plan.budget = *budget_;
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    ask(snapshot.guests[i], static_cast<double>(sizes_[i]), plan.guests[i]);
  }
  grant_unseen(snapshot, Promise::maximum, plan);
  return plan;
}

void StaticPartition::divide(const Snapshot& snapshot) {
  names_.clear();
  std::vector<Claim> claims;
  for (const GuestSnapshot& guest : snapshot.guests) {
    names_.push_back(guest.name);
    const Bytes high = std::min(guest.limits.max, guest.memory);
    claims.push_back({std::min(guest.limits.min, high), high, guest.limits.weight});
  }
  water_fill(claims, *budget_, sizes_);
}

}  // namespace balloon::policy::peers
