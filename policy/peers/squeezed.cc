// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/squeezed.h"

#include <algorithm>
#include <cmath>

#include "base/pages.h"
#include "policy/peers/plans.h"
#include "policy/peers/readings.h"

namespace balloon::policy::peers {
namespace {

Kib kib(double bytes) { return static_cast<Kib>(bytes / static_cast<double>(kKiB)); }
Kib kib(Bytes bytes) { return static_cast<Kib>(bytes / kKiB); }
double bytes(Kib kib) { return static_cast<double>(kib) * static_cast<double>(kKiB); }

/// Balloons move by pages.
constexpr Kib kPageKib = static_cast<Kib>(kPageSize / kKiB);

}  // namespace

Plan Squeezed::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  match_reservations(snapshot);
  observe(snapshot);
  update_cooperation(snapshot.now, plan);
  if (!run_) start_run(snapshot);
  if (run_) iterate(snapshot, plan);
  for (std::size_t i = 0; i < grants_.size(); ++i) {
    plan.reservations[i].state = grants_[i].state;
    plan.reservations[i].granted = static_cast<Bytes>(bytes(grants_[i].granted));
  }
  return plan;
}

/// Keeps one grant a reservation, in the same order.
void Squeezed::match_reservations(const Snapshot& snapshot) {
  std::vector<Grant> next;
  for (const Reservation& reservation : snapshot.reservations) {
    const Grant* known = grant_of(reservation.id);
    next.push_back(known ? *known : Grant{reservation.id});
  }
  grants_ = std::move(next);
  if (run_ && !run_->reservation.empty() && !grant_of(run_->reservation)) run_.reset();
}

Squeezed::Grant* Squeezed::grant_of(const std::string& id) {
  const auto found = std::ranges::find(grants_, id, &Grant::id);
  return found == grants_.end() ? nullptr : &*found;
}

void Squeezed::observe(const Snapshot& snapshot) {
  tracks_.align(snapshot);
  domains_.clear();
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    Domain domain;
    domain.guest = i;
    domain.can_balloon = guest.controllable;
    domain.actual = kib(guest.actual);
    domain.target = kib(guest.target);
    domain.dynamic_max = kib(std::min(guest.limits.max, guest.memory));
    domain.dynamic_min = std::min(kib(guest.limits.min), domain.dynamic_max);
    if (!guest.controllable) domain.dynamic_min = domain.dynamic_max = domain.target = domain.actual;
    domains_.push_back(domain);
  }
  const Kib own = kib(host_own_use(snapshot));
  if (!own_use_ || std::abs(own - *own_use_) >= settings_.own_use_step) own_use_ = own;
  free_ = kib(snapshot.host.total) - *own_use_ - kib(assigned(snapshot));
  for (const Grant& grant : grants_) free_ -= grant.granted;
}

/// A guest off its target for too long is flagged, for people to see.
void Squeezed::update_cooperation(Time now, Plan& plan) {
  for (const Domain& domain : domains_) {
    auto& since = tracks_[domain.guest].cooperative_at;
    if (!since || !domain.can_balloon || hit(domain, domain.target)) since = now;
    if (now - *since > settings_.uncooperative_after) plan.guests[domain.guest].state = GuestState::stuck;
  }
}

/// Whether the guest is where it would be with that target.
bool Squeezed::hit(const Domain& domain, Kib target) const {
  return std::abs(domain.actual - target) <= settings_.inaccuracy;
}

/// Calls are served one after the other; those of clients come before the periodic one.
void Squeezed::start_run(const Snapshot& snapshot) {
  for (std::size_t i = 0; i < grants_.size(); ++i) {
    if (grants_[i].state != GrantState::pending) continue;
    start_reservation(snapshot.reservations[i], grants_[i]);
    if (run_) return;
  }
  if (!next_check_) next_check_ = snapshot.now + settings_.balance_check_interval;
  if (snapshot.now < *next_check_) return;
  if (unbalanced()) {
    run_ = Run{.required = host_target()};
    ++runs_;
  } else {
    next_check_ = snapshot.now + settings_.balance_check_interval;
  }
}

/// reserve_memory_range: as if the guest to be were there, at nothing, and had a share like all others.
void Squeezed::start_reservation(const Reservation& wanted, Grant& grant) {
  const Kib min = kib(wanted.min);
  const Kib max = std::max(min, kib(wanted.max));
  const double share = gamma(host_target(), max - min);
  const Kib ideal = min + static_cast<Kib>(share * static_cast<double>(max - min));
  run_ = Run{ideal + host_target(), min + host_target(), wanted.id, min, max};
  ++runs_;
  const bool settled = std::ranges::all_of(
      domains_, [this](const Domain& domain) { return !domain.can_balloon || hit(domain, domain.target); });
  if (run_->required > free_ || !settled) return;
  grant.state = GrantState::granted;
  grant.granted = std::clamp(free_ - host_target(), min, max);
  free_ -= grant.granted;
  run_.reset();
}

/// How far guests can be from their minimums to their maximums, all alike, with `keep_free` left on the
/// host. A guest to be adds its range, but has nothing yet that it could free.
double Squeezed::gamma(Kib keep_free, Kib further_range) const {
  Kib surplus = free_ - keep_free;
  Kib range = further_range;
  for (const Domain& domain : domains_) {
    if (!domain.active) continue;
    surplus += std::max<Kib>(0, domain.actual - domain.dynamic_min - 2 * settings_.inaccuracy);
    range += domain.dynamic_max - domain.dynamic_min;
  }
  if (range <= 0 || surplus <= 0) return 0;
  return std::min(1.0, static_cast<double>(surplus) / static_cast<double>(range));
}

/// Whether a run that starts now would change a target.
bool Squeezed::unbalanced() {
  for (Domain& domain : domains_) domain.active = domain.can_balloon;
  const bool adjust = judge({.required = host_target()}, targets_) == Outcome::adjust;
  return adjust && std::ranges::any_of(targets_, [this](const NewTarget& to) {
           return domains_[to.domain].target != to.target;
         });
}

/// One turn of the run: looks at the drivers, sets targets, or ends it.
void Squeezed::iterate(const Snapshot& snapshot, Plan& plan) {
  watch_progress(snapshot.now);
  const Outcome outcome = judge(*run_, targets_);
  for (const Domain& domain : domains_) {
    Track& track = tracks_[domain.guest];
    if (!domain.active && !track.declared_inactive) {
      const Kib held = std::min(domain.target, domain.actual);
      ask(snapshot.guests[domain.guest],
          bytes(std::min(domain.dynamic_max, std::max(domain.dynamic_min, held))), plan.guests[domain.guest]);
    }
    track.declared_inactive = !domain.active;
  }
  if (outcome == Outcome::adjust) {
    for (const NewTarget& to : targets_) {
      const std::size_t guest = domains_[to.domain].guest;
      ask(snapshot.guests[guest], bytes(to.target), plan.guests[guest]);
    }
  } else {
    finish(outcome, snapshot.now);
  }
}

/// A driver that should move and has not moved the right way for a while is left out of the run.
void Squeezed::watch_progress(Time now) {
  for (Domain& domain : domains_) {
    Track& track = tracks_[domain.guest];
    if (track.run != runs_) {
      track.run = runs_;
      track.last_actual = domain.actual;
      track.progress_at = now;
      track.stuck = track.declared_inactive = false;
    }
    const Kib moved = domain.actual - track.last_actual;
    track.last_actual = domain.actual;
    const bool asked = !hit(domain, domain.target);
    if (asked && (domain.target > domain.actual ? moved > 0 : moved < 0)) {
      track.progress_at = now;
      track.stuck = false;
    }
    if (asked && now - track.progress_at > settings_.assume_balloon_driver_stuck_after) track.stuck = true;
    domain.active = domain.can_balloon && !track.stuck;
  }
}

/// What to do next, and the targets for it: as long as any guest must free, only those that free.
Squeezed::Outcome Squeezed::judge(const Run& run, std::vector<NewTarget>& targets) const {
  const double share = gamma(run.required, 0);
  targets.clear();
  bool freeing = false;
  bool reached = true;
  for (std::size_t i = 0; i < domains_.size(); ++i) {
    const Domain& domain = domains_[i];
    if (!domain.active) continue;
    const auto range = static_cast<double>(domain.dynamic_max - domain.dynamic_min);
    const Kib target = domain.dynamic_min + static_cast<Kib>(share * range);
    targets.push_back({i, target / kPageKib * kPageKib});
    freeing |= !hit(domain, targets.back().target) && targets.back().target < domain.actual;
    reached &= hit(domain, domain.target);
  }
  if (freeing) {
    std::erase_if(targets, [this](const NewTarget& to) {
      return hit(domains_[to.domain], to.target) || to.target >= domains_[to.domain].actual;
    });
  }
  const bool changes = std::ranges::any_of(
      targets, [this](const NewTarget& to) { return domains_[to.domain].target != to.target; });
  if (!reached || changes) return Outcome::adjust;
  const bool enough =
      run.least ? free_ >= *run.least : free_ - host_target() < settings_.free_memory_tolerance;
  return enough ? Outcome::success : Outcome::failed;
}

void Squeezed::finish(Outcome outcome, Time now) {
  if (run_->reservation.empty()) {
    next_check_ = now + settings_.balance_check_interval;
  } else if (Grant* grant = grant_of(run_->reservation)) {
    grant->state = outcome == Outcome::success ? GrantState::granted : GrantState::denied;
    if (outcome == Outcome::success) {
      grant->granted = std::clamp(free_ - host_target(), run_->min, run_->max);
    }
  }
  run_.reset();
}

}  // namespace balloon::policy::peers
