// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/foresight.h"

#include <algorithm>
#include <limits>

#include "base/pages.h"

namespace balloon::policy::sim {
namespace {

/// The signals are looked at so often within the span.
constexpr Time kGlance = kStep;
/// Beyond its need and its watermark a guest gets so much: what rounding and a step's changes may take.
constexpr double kSlack = 4 * kMiBd;

Bytes whole(double bytes) { return whole_pages(static_cast<Bytes>(std::max(0.0, bytes))); }

double least_arc(const HostSpec& host) {
  if (!host.effects.arc_rule) return std::numeric_limits<double>::infinity();
  return host.arc_min ? static_cast<double>(*host.arc_min) : arc_minimum(static_cast<double>(host.memory));
}

}  // namespace

Foresight::Foresight(const Scenario& scenario, std::uint64_t seed, const Sight& sight)
    : sight_(sight),
      host_(scenario.host, host_seed(seed), scenario.duration),
      arc_least_(least_arc(scenario.host)),
      zram_ratio_(scenario.host.swap.memory_ratio) {
  for (std::size_t i = 0; i < scenario.guests.size(); ++i) {
    const GuestSpec& spec = scenario.guests[i];
    seers_.emplace(spec.name, Seer{&spec, GuestSignals(spec, guest_seed(seed, i), scenario.duration)});
  }
}

/// The most that it knows of a signal.
double Foresight::most(Signal& signal, Time now) const {
  return signal.most(std::max(Time{}, now - sight_.behind), sight_.span, kGlance);
}

/// All that it will use.
Bytes Foresight::need(Seer& seer, Time now) {
  const double anon = most(seer.signals.anon, now);
  const double idle = std::min(anon * seer.spec->anon_idle, static_cast<double>(seer.spec->swap.size));
  double need = anon - idle + most(seer.signals.hot, now) + most(seer.signals.kernel, now);
  if (seer.spec->cold_counts) need += most(seer.signals.cold, now);
  return whole(need + low_watermark(static_cast<double>(seer.spec->memory)) + kSlack);
}

/// What it could hold beyond that, and uses now and then or not at all: idle anonymous memory, cold files, an
/// ARC.
Bytes Foresight::spare(Seer& seer, Time now) {
  const double idle = seer.spec->anon_idle * most(seer.signals.anon, now);
  const double cold = seer.spec->cold_counts ? 0 : most(seer.signals.cold, now);
  return whole(idle + cold + most(seer.signals.arc, now));
}

Plan Foresight::decide(const Snapshot& snapshot) {
  Plan plan;
  plan.state = HostState::normal;
  // An ARC gives up all but its least for nothing; what lies in zram takes up memory.
  const double arc = std::min(arc_least_, most(host_.arc, snapshot.now));
  const double zram = zram_ratio_ * static_cast<double>(snapshot.host.swap_total - snapshot.host.swap_free);
  const double own = most(host_.own, snapshot.now) + arc + zram;
  const double total = static_cast<double>(snapshot.host.total);
  const double cache = std::min(kHostCacheLeast, most(host_.cache, snapshot.now));
  plan.budget = whole(total * (1 - kHostLow) - own - cache - kSlack -
                      kVmmOwn * static_cast<double>(snapshot.guests.size()));
  Bytes fixed{};
  Bytes unused{};  // of guests' sizes: what they have or must have, and will not touch
  claims_.clear();
  movable_.clear();
  plan.guests.resize(snapshot.guests.size());
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    Seer& seer = seers_.find(guest.name)->second;
    GuestPlan& mine = plan.guests[i];
    mine.name = guest.name;
    mine.target = guest.target;
    mine.need = mine.used = std::min(need(seer, snapshot.now), guest.memory);
    if (seer.spec->pinned) {
      fixed += guest.memory;
    } else if (!guest.controllable || seer.spec->driver == Driver::slow ||
               seer.spec->driver == Driver::stuck) {
      // It cannot be made smaller, but does not use all that it could.
      const Bytes used =
          std::min(std::max(guest.actual, guest.target), mine.need + spare(seer, snapshot.now));
      fixed += used;
      unused += above(std::max(guest.actual, guest.target), used);
    } else {
      const Bytes low = std::min({guest.limits.min, guest.memory, mine.need});
      const Bytes high = std::clamp(mine.need, low, std::max(low, guest.limits.max));
      claims_.push_back({low, high, guest.limits.weight});
      movable_.push_back(i);
    }
  }
  const Bytes shared = above(plan.budget, fixed);
  Bytes needs{};
  for (const Claim& claim : claims_) needs += claim.high;
  for (const Reservation& reservation : snapshot.reservations) {  // only what hurts nobody
    const bool fits = granted_.contains(reservation.id) || needs + reservation.min <= shared;
    const Bytes most =
        fits ? std::clamp(above(shared, needs), reservation.min, std::max(reservation.min, reservation.max))
             : Bytes{0};
    claims_.push_back({fits ? reservation.min : Bytes{0}, most, reservation.priority});
    needs += most;
  }
  // What is left beyond needs: what guests have for files of theirs and idle memory stays, since to take it
  // and give it back costs reads and small pages; then all that they could hold so; then what they have stays
  // as it is.
  const auto useful = [&](std::size_t guest) {
    return plan.guests[guest].need + spare(seers_.find(snapshot.guests[guest].name)->second, snapshot.now);
  };
  const auto held = [&](std::size_t guest) {
    return std::max(snapshot.guests[guest].actual, snapshot.guests[guest].target);
  };
  if (raise(snapshot, shared, [&](std::size_t guest) { return std::min(useful(guest), held(guest)); }) &&
      raise(snapshot, shared, useful)) {
    raise(snapshot, shared, held);
  }
  water_fill(claims_, shared, shares_, space_);
  for (std::size_t k = 0; k < movable_.size(); ++k) {
    const GuestLimits& limits = snapshot.guests[movable_[k]].limits;
    GuestPlan& mine = plan.guests[movable_[k]];
    mine.share = shares_[k];
    mine.target = std::max(shares_[k], std::min(limits.min, snapshot.guests[movable_[k]].memory));
    unused += mine.target - shares_[k];
  }
  reserve(snapshot, plan);
  plan.budget += unused;  // admit() counts such guests by their size
  return plan;
}

/// Where all claims fit they are granted, and guests claim up to `most` more. Returns whether they did fit.
bool Foresight::raise(const Snapshot& snapshot, Bytes shared, const std::function<Bytes(std::size_t)>& most) {
  Bytes claimed{};
  for (const Claim& claim : claims_) claimed += claim.high;
  if (claimed >= shared) return false;
  for (std::size_t k = 0; k < claims_.size(); ++k) {
    claims_[k].low = claims_[k].high;
    if (k >= movable_.size()) continue;
    const std::size_t guest = movable_[k];
    claims_[k].high = std::max(claims_[k].low, std::min(most(guest), snapshot.guests[guest].limits.max));
  }
  return true;
}

/// Grants what is really free; what was granted and not used yet is kept.
void Foresight::reserve(const Snapshot& snapshot, Plan& plan) {
  double free = static_cast<double>(snapshot.host.available);
  for (const auto& [id, bytes] : granted_) {
    if (std::ranges::find(snapshot.reservations, id, &Reservation::id) != snapshot.reservations.end()) {
      free -= static_cast<double>(bytes);
      continue;
    }
    const auto guest = std::ranges::find(snapshot.guests, id, &GuestSnapshot::name);
    if (guest == snapshot.guests.end() || guest->controllable) continue;
    free -= std::max(0.0, static_cast<double>(bytes) - static_cast<double>(guest->on_host.resident));
  }
  for (std::size_t i = 0; i < snapshot.reservations.size(); ++i) {
    const Reservation& reservation = snapshot.reservations[i];
    ReservationPlan mine{reservation.id, GrantState::pending, Bytes{0}};
    const auto granted = granted_.find(reservation.id);
    if (granted != granted_.end()) {
      mine.state = GrantState::granted;
      mine.granted = granted->second;
    } else if (shares_[movable_.size() + i] >= reservation.min &&
               free >= static_cast<double>(reservation.min)) {
      mine.state = GrantState::granted;
      mine.granted = std::clamp(std::min(shares_[movable_.size() + i], whole(free)), reservation.min,
                                std::max(reservation.min, reservation.max));
      granted_[reservation.id] = mine.granted;
      free -= static_cast<double>(mine.granted);
    } else if (snapshot.now >= reservation.deadline) {
      mine.state = GrantState::denied;
    }
    plan.reservations.push_back(mine);
  }
}

}  // namespace balloon::policy::sim
