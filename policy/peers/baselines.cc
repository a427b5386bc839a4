// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/baselines.h"

#include <algorithm>

#include "policy/peers/plans.h"
#include "policy/tunables.h"

namespace balloon::policy::peers {
namespace {

/// What guests can have together: all but what the host's own processes use, and the reserve that our engine
/// keeps too, so that both have the same to divide.
Bytes divisible(const Snapshot& snapshot) {
  const HostSnapshot& host = snapshot.host;
  Bytes held{};
  for (const GuestSnapshot& guest : snapshot.guests) held += std::min(guest.on_host.resident, guest.memory);
  const Bytes reserve = Tunables{}.host_reserve;
  const Bytes all = std::min(host.total, std::min(host.available, host.total) + held);
  return above(all, reserve);
}

struct Part {
  double low = 0;
  double high = 0;
  double weight = 1;
  double size = 0;
  bool fixed = false;
};

/// Divides `budget` by weight between the bounds: as long as shares are out of bounds, fixes those that are
/// so on the side that is further out, and divides the rest anew.
void divide_by_weight(double budget, std::vector<Part>& parts) {
  for (bool done = false; !done;) {
    double left = budget;
    double weights = 0;
    for (const Part& part : parts) (part.fixed ? left : weights) += part.fixed ? -part.size : part.weight;
    double out = 0;
    for (Part& part : parts) {
      if (part.fixed) continue;
      const double share = std::max(left, 0.0) / weights * part.weight;
      part.size = std::clamp(share, part.low, part.high);
      out += part.size - share;
    }
    done = true;
    for (Part& part : parts) {
      if (part.fixed || out == 0) continue;
      part.fixed = out > 0 ? part.size == part.low : part.size == part.high;
      done &= !part.fixed;
    }
  }
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
  std::vector<Part> parts;
  for (const GuestSnapshot& guest : snapshot.guests) {
    names_.push_back(guest.name);
    const Bytes high = std::min(guest.limits.max, guest.memory);
    parts.push_back({static_cast<double>(std::min(guest.limits.min, high)), static_cast<double>(high),
                     static_cast<double>(std::max<std::uint32_t>(guest.limits.weight, 1))});
  }
  divide_by_weight(static_cast<double>(*budget_), parts);
  sizes_.clear();
  for (const Part& part : parts) sizes_.push_back(static_cast<Bytes>(part.size));
}

}  // namespace balloon::policy::peers
