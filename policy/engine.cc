// SPDX-License-Identifier: Apache-2.0
#include "policy/engine.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "policy/assessment.h"
#include "policy/budget.h"
#include "policy/decision.h"
#include "policy/donors.h"
#include "policy/holdings.h"
#include "policy/ksm.h"
#include "policy/rate.h"
#include "policy/reservations.h"
#include "policy/targets.h"

namespace balloon::policy {
namespace {

using Histories = std::unordered_map<std::string, GuestHistory>;

/// What a guest, once its target is `target`, keeps from reservations. They are granted for good: so a
/// balloon that moves has to arrive first, also where it takes what was never touched.
Bytes withheld(const GuestPlan& plan, const GuestSnapshot& guest, Bytes target) {
  return is_promised(plan.state) ? std::max(guest.actual, target) : counted(plan, guest, target);
}

/// What reservations can be made from. As soon as there is one, the budget has no part of an ARC.
Supply supply(const Decision& decision, Bytes kept) {
  const HostSnapshot& host = decision.snapshot.host;
  const Bytes arc = decision.snapshot.reservations.empty() ? obtainable(host) - host.available : Bytes{0};
  Supply supply{.budget = above(decision.plan.budget, arc)};
  double free = static_cast<double>(supply.budget) - static_cast<double>(kept);
  for (std::size_t i = 0; i < decision.guests.size(); ++i) {
    const GuestSnapshot& guest = decision.snapshot.guests[i];
    const GuestDecision& mine = decision.guests[i];
    free -= static_cast<double>(withheld(decision.plan.guests[i], guest, guest.target));
    if (mine.movable && !guest.on_host.pinned)
      supply.speed += mine.history->progress.speed(decision.tunables);
  }
  supply.free = static_cast<Bytes>(std::max(0.0, free));
  return supply;
}

/// What guests leave of the budget for reservations, once those under pressure have what they are given.
Bytes left_for_reservations(const Decision& decision, Bytes kept) {
  double free = static_cast<double>(decision.plan.budget) - static_cast<double>(kept);
  for (std::size_t i = 0; i < decision.guests.size(); ++i) {
    const GuestSnapshot& guest = decision.snapshot.guests[i];
    const GuestDecision& mine = decision.guests[i];
    const Bytes target = decision.plan.guests[i].target;
    const Bytes most = mine.pressure != Pressure::none ? target : std::min(target, held(guest));
    free -= static_cast<double>(withheld(decision.plan.guests[i], guest, most));
  }
  return static_cast<Bytes>(std::max(0.0, free));
}

/// What guests need and reservations keep, in bytes.
double needed_by_all(const Plan& plan, Bytes kept) {
  double needed = static_cast<double>(kept);
  for (const GuestPlan& guest : plan.guests) needed += static_cast<double>(guest.need);
  return needed;
}

/// Whether a guest hurts by its own account. What hurts it on the host is no reason to leave that less.
bool hurts_by_itself(const Explanation& why) {
  return why.pressure != Pressure::none && why.signal != Signal::host_swap_in &&
         why.signal != Signal::host_refaults && why.signal != Signal::host_pressure;
}

GuestsInWant want_of(const Plan& plan) {
  GuestsInWant want;
  for (const GuestPlan& guest : plan.guests) {
    want.any |= hurts_by_itself(guest.why);
    if (!is_promised(guest.state)) want.untouched = add(want.untouched, guest.untouched);
  }
  return want;
}

}  // namespace

struct Engine::Impl {
  Tunables tunables;
  Histories histories;
  std::vector<Histories::value_type*> places;  ///< where each guest's is, by its place in the last snapshot
  std::uint64_t decisions = 0;
  std::optional<Time> last;
  HostMonitor monitor;
  Budget budget;
  GuestsInWant want;  ///< in the last decision
  Allocation allocation;
  Reservations reservations;
  KsmGovernor ksm;
  Workspace workspace;
  Outlook outlook;  ///< but for what the workspace and the snapshot have

  Plan decide(const Snapshot& snapshot);
  Decision begin(const Snapshot& snapshot);
  GuestHistory& history_of(const GuestSnapshot& guest, std::size_t index, Time now);
  void share_out(Decision& decision);
  void note_givers(const Decision& decision);
};

Engine::Engine(const Tunables& tunables) : impl_(std::make_unique<Impl>()) { impl_->tunables = tunables; }
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
void Engine::set_tunables(const Tunables& tunables) { impl_->tunables = tunables; }
Plan Engine::decide(const Snapshot& snapshot) { return impl_->decide(snapshot); }

Outlook Engine::outlook(const Snapshot& snapshot) const {
  Outlook outlook = impl_->outlook;
  outlook.surplus = impl_->tunables.surplus;
  outlook.groups = snapshot.groups;
  outlook.consumers = impl_->workspace.consumers;
  return outlook;
}

Plan Engine::Impl::decide(const Snapshot& snapshot) {
  Decision decision = begin(snapshot);
  Plan& plan = decision.plan;
  plan.budget = budget.update(snapshot, want, decision.elapsed, tunables);
  plan.level = monitor.update(snapshot.host, snapshot.now, budget.reserve(), tunables);
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i)
    assess(decision, i, history_of(snapshot.guests[i], i, snapshot.now));
  want = want_of(plan);
  outlook.supply = supply(decision, reservations.kept());
  outlook.headroom = decision.headroom();
  note_givers(decision);
  reservations.review(snapshot, outlook.supply, decision.consumers);
  share_out(decision);
  ask_donors(decision);
  set_targets(decision);
  if (!snapshot.reservations.empty())
    reservations.keep(snapshot, decision.reservation_shares,
                      left_for_reservations(decision, reservations.kept()), tunables.constants.last_moment,
                      plan);
  plan.ksm = ksm.update(snapshot, plan, needed_by_all(plan, reservations.kept()), tunables);
  if (plan.state != HostState::infeasible)
    plan.budget = std::max(plan.budget, std::min(committed(plan, snapshot.guests), budget.most()));
  return std::move(decision.plan);
}

Decision Engine::Impl::begin(const Snapshot& snapshot) {
  const double elapsed_max = seconds(tunables.constants.elapsed_max);
  const double elapsed = last ? std::clamp(seconds(since(*last, snapshot.now)), 0.0, elapsed_max) : 0.0;
  last = snapshot.now;
  ++decisions;
  if (histories.size() > 2 * snapshot.guests.size()) {
    std::erase_if(histories, [&](const auto& entry) { return entry.second.decision + 1 != decisions; });
    places.clear();
  }
  places.resize(snapshot.guests.size());
  workspace.guests.resize(snapshot.guests.size());
  workspace.consumers.clear();
  Decision decision{.snapshot = snapshot,
                    .tunables = tunables,
                    .elapsed = elapsed,
                    .guests = workspace.guests,
                    .consumers = workspace.consumers};
  decision.plan.guests.resize(snapshot.guests.size());
  return decision;
}

/// Guests mostly stand where they stood in the decision before: that saves looking them up.
GuestHistory& Engine::Impl::history_of(const GuestSnapshot& guest, std::size_t index, Time now) {
  Histories::value_type*& place = places[index];
  if (place == nullptr || place->first != guest.name) {
    const auto [found, is_new] = histories.try_emplace(guest.name);
    place = &*found;
    // One that was away for a while is a new one of the same name.
    if (is_new || place->second.decision + 1 != decisions) {
      place->second = GuestHistory{};
      place->second.probing.adopt(now, tunables);
    }
  }
  place->second.decision = decisions;
  return place->second;
}

void Engine::Impl::note_givers(const Decision& decision) {
  outlook.givers.clear();
  for (std::size_t i = 0; i < decision.guests.size(); ++i) {
    const GuestSnapshot& guest = decision.snapshot.guests[i];
    const GuestDecision& mine = decision.guests[i];
    const bool gives = mine.movable && !guest.on_host.pinned;
    Outlook::Giver& giver = outlook.givers.emplace_back();
    giver.size = withheld(decision.plan.guests[i], guest, guest.target);
    giver.speed = gives ? mine.history->progress.speed(tunables) : 0;
    if (mine.tried) giver.share_max = decision.plan.guests[i].need;
  }
}

void Engine::Impl::share_out(Decision& decision) {
  Plan& plan = decision.plan;
  const std::vector<GroupLimits>& groups = decision.snapshot.groups;
  plan.state =
      allocation.share(decision.consumers, groups, plan.budget, decision.headroom(), tunables.surplus);
  if (plan.state != HostState::infeasible && plan.level != HostState::normal &&
      (plan.level != HostState::tight || plan.state == HostState::normal)) {
    plan.state = plan.level;
  }
  decision.reservation_shares = allocation.shares().subspan(decision.guests.size());
  std::vector<Bytes>& sizes = workspace.group_sizes;
  sizes.assign(groups.size(), Bytes{});
  for (std::size_t i = 0; i < decision.guests.size(); ++i) {
    if (decision.guests[i].movable) plan.guests[i].share = allocation.shares()[i];
    // It counts as it is, but is to come down to what it needs.
    if (decision.guests[i].tried) plan.guests[i].share = std::min(plan.guests[i].share, plan.guests[i].need);
    const std::uint32_t group = decision.consumers[i].group;
    if (group != kNoGroup) sizes[group] += decision.guests[i].settling;
  }
  for (std::size_t i = 0; i < decision.guests.size(); ++i) {
    const Consumer& consumer = decision.consumers[i];
    if (consumer.group == kNoGroup) continue;
    const Bytes most = groups[consumer.group].max;
    GuestDecision& mine = decision.guests[i];
    mine.group_full = allocation.group_share(consumer) >= most;
    mine.over_group = sizes[consumer.group] > most && mine.settling > plan.guests[i].share;
  }
}

}  // namespace balloon::policy
