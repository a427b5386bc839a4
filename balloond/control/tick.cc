// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/tick.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

/// On a host that is short of memory, what a guest had longer ago than this is no longer good enough to take
/// from it: half of the default interval of statistics, or of the period.
constexpr std::chrono::nanoseconds kFreshEnough = std::chrono::milliseconds(500);

/// A move back that comes later is no regret about the one before: guests change.
constexpr std::chrono::nanoseconds kReversalWindow = std::chrono::minutes(1);

/// Guests can make the host's state change with every decision.
const log::Source kStates{"the host's state"};

std::string_view name_of(policy::HostState state) {
  switch (state) {
    case policy::HostState::unspecified:
      return "unknown";
    case policy::HostState::normal:
      return "normal: every guest can have what it needs";
    case policy::HostState::tight:
      return "tight: guests have shares by weight";
    case policy::HostState::infeasible:
      return "infeasible: the guaranteed minimums alone exceed the budget";
    case policy::HostState::critical:
      return "critical: guests give all above their shares at once";
    case policy::HostState::emergency:
      return "emergency: next to nothing is free";
  }
  return "unknown";
}

/// Without statistics policy takes a guest for one that boots. One that talks nonsense, has left, or has had
/// its driver up for so long that statistics should have come does not: its statistics are as old as can be,
/// and it is held.
bool is_past_booting(const GuestRecord& guest, const policy::Tunables& tunables, Time now) {
  if (!guest.connected || !guest.complaint.empty()) return true;
  return guest.balloon.driver_ready && now - guest.ready_since > tunables.stale_after;
}

/// Until when the daemon keeps its hands off a guest whose balloon somebody else moved.
Time contested_until(const Contest& contest, const policy::rules::OtherHands& policy) {
  const bool yields = policy.then == policy::rules::OtherHands::Then::yield;
  return (yields ? contest.noticed : contest.since) + policy.time;
}

constexpr auto kLeftAlone = "its policy leaves it alone (control: off)";

policy::GuestSnapshot see(GuestRecord& guest, policy::rules::Resolver& resolver, Time now) {
  policy::GuestSnapshot seen;
  seen.name = guest.name;
  seen.memory = guest.memory;
  seen.limits = resolver.limits(guest.name, guest.labels, guest.credit.counted(guest.memory));
  if (!resolver.control(guest.name) && guest.balloon.obstacle.empty()) guest.balloon.obstacle = kLeftAlone;
  seen.actual = guest.balloon.actual;
  seen.target = guest.target;
  seen.on_host = guest.on_host;
  seen.on_host.merging = guest.merging.value_or(true);
  const bool contested =
      guest.contest && now < contested_until(*guest.contest, resolver.policy().other_hands);
  seen.controllable =
      guest.connected && guest.balloon.driver_ready && guest.balloon.obstacle.empty() && !contested;
  seen.stats = guest.usable;
  const policy::Tunables& tunables = resolver.policy().tunables;
  if (!seen.stats && is_past_booting(guest, tunables, now)) {
    seen.stats.emplace();
    seen.stats->sampled_at = now - 2 * tunables.stale_after;
    seen.stats->actual = seen.actual;
  }
  if (guest.pin) seen.pin = policy::Pin{.target = guest.pin->target};
  guest.credit.apply(seen);
  return seen;
}

}  // namespace

Ticker::Ticker(const Clock& clock, Registry& guests, HostSampler& host, StateStore& states,
               const policy::rules::PolicyFile& policy, Journal* journal, ReservationBook* reservations,
               KsmControl* ksm, ControlSwitch* control)
    : clock_(clock),
      guests_(guests),
      host_(host),
      states_(states),
      journal_(journal),
      reservations_(reservations),
      ksm_(ksm),
      control_(control),
      resolver_(policy),
      engine_(policy.tunables) {
  if (policy.shadow) shadow_.emplace(*policy.shadow);
  if (journal_ != nullptr) journal_->tunables(policy.tunables);
}

void Ticker::set_policy(const policy::rules::PolicyFile& policy) {
  resolver_ = policy::rules::Resolver(policy);
  engine_.set_tunables(policy.tunables);
  if (journal_ != nullptr) journal_->tunables(policy.tunables);
  shadow_.reset();
  if (policy.shadow) shadow_.emplace(*policy.shadow);
  if (ksm_ != nullptr) ksm_->begin_anew();
}

void Ticker::tick() {
  auto host = host_.sample();
  if (!host) {
    if (counters_.failed_ticks++ == 0)
      log::error("the host cannot be sampled, no balloon is moved: {}", host.error().message);
    return;
  }
  claim_ksm(*host);
  guests_.refresh(host->memory.total);
  std::vector<GuestRecord> records = guests_.list();
  const WallTime wall = clock_.wall();
  const policy::Snapshot seen = snapshot(host->memory, records, wall);
  policy::Plan plan = engine_.decide(seen);
  if (shadow_ || journal_ != nullptr) show(seen, records, wall, plan);
  const std::vector<policy::Move> moves = policy::admit(plan, seen.guests);
  std::string not_applied = control_ == nullptr ? std::string() : control_->obstacle();
  if (not_applied.empty()) {
    move(moves, records);
    keep_from_merging(seen, records);
    if (plan.ksm && seen.host.ksm && seen.host.ksm->controllable) ksm_->apply(*plan.ksm, *seen.host.ksm);
  }
  note_change(plan);
  ask_for_fresh_stats();
  publish(*host, std::move(records), seen, plan, std::move(not_applied));
  if (reservations_ != nullptr) reservations_->settle(seen, plan);
}

void Ticker::claim_ksm(HostSample& host) {
  if (ksm_ == nullptr || !resolver_.policy().ksm) return;
  if (!host.memory.ksm) return ksm_->note_missing();
  host.memory.ksm->controllable = ksm_->works() && !host.ksm.unmerging;
}

policy::Snapshot Ticker::snapshot(const policy::HostSnapshot& host, std::vector<GuestRecord>& guests,
                                  WallTime wall) {
  resolver_.at(wall);
  policy::Snapshot snapshot{
      .now = clock_.now(), .host = host, .guests = {}, .groups = resolver_.groups(), .reservations = {}};
  snapshot.guests.reserve(guests.size());
  for (GuestRecord& guest : guests) snapshot.guests.push_back(see(guest, resolver_, snapshot.now));
  if (reservations_ != nullptr) {
    snapshot.reservations =
        reservations_->for_decision(snapshot.guests, resolver_.policy().boot_memory_max(host.total));
  }
  return snapshot;
}

void Ticker::show(const policy::Snapshot& seen, const std::vector<GuestRecord>& guests, WallTime wall,
                  const policy::Plan& plan) {
  std::vector<const std::map<std::string, std::string>*> labels;
  labels.reserve(guests.size());
  for (const GuestRecord& guest : guests) labels.push_back(&guest.labels);
  if (journal_ != nullptr) journal_->record(wall, seen, labels, plan);
  if (shadow_) shadow_->observe(seen, labels, wall, plan, counters_);
}

void Ticker::move(const std::vector<policy::Move>& moves, std::vector<GuestRecord>& guests) {
  for (const policy::Move& move : moves) {
    GuestRecord& guest = guests.at(move.guest);
    const Bytes target = std::min(guest.credit.claimed(move.target), guest.memory);
    if (!guests_.set_target(guest.name, guest.session, target)) continue;
    log::debug("guest {}: target {} -> {}", guest.name, format_bytes(guest.target), format_bytes(target));
    if (target < guest.target) {
      ++counters_.shrinks;
      counters_.bytes_shrunk += (guest.target - target).count();
    } else {
      ++counters_.grows;
      counters_.bytes_grown += (target - guest.target).count();
    }
    note_move(guest.name, target >= guest.target);
    guest.target = target;
  }
}

void Ticker::note_move(const std::string& guest, bool grown) {
  const Time now = clock_.now();
  std::erase_if(last_moves_, [now](const auto& move) { return now - move.second.at > kReversalWindow; });
  const auto [last, is_new] = last_moves_.try_emplace(guest);
  if (!is_new && last->second.grown != grown) {
    ++counters_.reversals;
    ++reversals_[guest];
  }
  last->second = {.grown = grown, .at = now};
}

void Ticker::keep_from_merging(const policy::Snapshot& seen, const std::vector<GuestRecord>& guests) {
  for (std::size_t i = 0; i < guests.size(); ++i) {
    const GuestRecord& guest = guests[i];
    if (seen.guests[i].limits.ksm || !guest.connected || guest.merging == false) continue;
    if (guests_.keep_from_merging(guest.name, guest.session))
      log::info(source_of(guest.peer), "guest {}: policy keeps its memory from KSM", guest.name);
  }
}

void Ticker::note_change(const policy::Plan& plan) {
  grows_wait_ = false;
  for (const policy::GuestPlan& guest : plan.guests) grows_wait_ |= guest.reason == policy::Reason::waiting;
  for (const policy::ReservationPlan& reservation : plan.reservations)
    grows_wait_ |= reservation.state == policy::GrantState::pending;
  if (std::exchange(host_state_, plan.state) == plan.state) return;
  if (plan.state >= policy::HostState::infeasible) {
    log::warning(kStates, "host memory is {}", name_of(plan.state));
  } else {
    log::info(kStates, "host memory is {}", name_of(plan.state));
  }
}

void Ticker::ask_for_fresh_stats() {
  if (host_state_ < policy::HostState::critical) return;
  counters_.stats_requests += static_cast<std::uint64_t>(guests_.request_fresh_stats(kFreshEnough));
}

void Ticker::publish(const HostSample& host, std::vector<GuestRecord> guests, const policy::Snapshot& seen,
                     const policy::Plan& plan, std::string not_applied) {
  auto state = std::make_shared<State>();
  state->revision = ++revision_;
  state->at = seen.now;
  state->wall = clock_.wall();
  state->host = host;
  state->reserve = resolver_.policy().tunables.host_reserve;
  state->budget = plan.budget;
  state->host_state = plan.state;
  state->not_applied = std::move(not_applied);
  for (const policy::ReservationPlan& each : plan.reservations) state->reserved += each.granted;
  std::map<std::string, std::uint64_t> reversals;
  state->guests.reserve(guests.size());
  for (std::size_t i = 0; i < guests.size(); ++i) {
    const Credit credit = guests[i].credit;
    state->committed += std::max<Bytes>(seen.guests[i].actual, credit.counted(guests[i].target));
    state->configured += seen.guests[i].memory;
    std::optional<Time> contested;
    if (guests[i].contest) {
      const Time until = contested_until(*guests[i].contest, resolver_.policy().other_hands);
      if (seen.now < until) contested = until;
    }
    const auto reversed = reversals_.find(guests[i].name);
    if (reversed != reversals_.end()) reversals.insert(*reversed);
    state->guests.push_back({.record = std::move(guests[i]),
                             .contested_until = contested,
                             .limits = seen.guests[i].limits,
                             .plan = plan.guests.at(i),
                             .actual = seen.guests[i].actual,
                             .reversals = reversed == reversals_.end() ? 0 : reversed->second});
    const GuestStatus& guest = state->guests.back();
    ++counters_.decisions.at(static_cast<std::size_t>(reason_of(guest)));
    ++counters_.blocked.at(static_cast<std::size_t>(blocker_of(guest)));
  }
  reversals_ = std::move(reversals);
  state->outlook = engine_.outlook(seen);
  if (reservations_ != nullptr) state->boot_memory_free = reservations_->boot_memory_free();
  states_.publish(std::move(state));
}

}  // namespace balloon::daemon
