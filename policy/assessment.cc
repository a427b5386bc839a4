// SPDX-License-Identifier: Apache-2.0
#include "policy/assessment.h"

#include <algorithm>

#include "policy/holdings.h"
#include "policy/rate.h"
#include "policy/trust.h"

namespace balloon::policy {
namespace {

/// Whether the guest's use rises, and its balloon, `speed` bytes a second, would be on its way down for
/// longer than growth is foreseen. Most of what is still to come down would have to go up again.
bool outgrows(const GuestSnapshot& guest, const Demand::Estimate& estimate, double speed,
              const Tunables& tunables) {
  if (!estimate.surging) return false;
  const Bytes down = above(guest.actual, std::min(guest.target, estimate.need));
  return static_cast<double>(down) > speed * seconds(tunables.growth_horizon);
}

/// What nobody in the guest uses, not even as page cache. Where that is not known it is what is available and
/// not known to be cache; what the host knows to be available was never touched.
Bytes free_in(const GuestSnapshot& guest, Source source, Bytes available) {
  if (source == Source::host) return available;
  return guest.stats->free.value_or(above(available, guest.stats->disk_caches.value_or(Bytes{})));
}

/// What of the guest's statistics counts; or what the host sees of it, when there have been none for long.
Judgement judge_guest(const Snapshot& snapshot, const GuestSnapshot& guest, const Tunables& tunables,
                      GuestHistory& history, Explanation& why) {
  const HostSnapshot& host = snapshot.host;
  Judgement judged = judge(guest, snapshot.now, above(host.swap_total, host.swap_free), tunables);
  why.trust = judged.trust;
  if (guest.stats) why.age = std::max(Time{}, since(guest.stats->sampled_at, snapshot.now));
  if (judged.usable()) {
    history.blind_since.reset();
    why.source = Source::statistics;
  } else if (!guest.controllable) {
    history.blind_since.reset();
  } else if (!history.blind_since || *history.blind_since > snapshot.now) {
    history.blind_since = snapshot.now;
  } else if (!within(*history.blind_since, snapshot.now, tunables.blind_after)) {
    judged = judge_by_host(guest);
    if (judged.usable()) why.source = Source::host;
  }
  why.available = judged.available;
  return judged;
}

/// Of what the guest has, what it has not touched and is not expected to touch soon: all but its margin and a
/// part of the rest. To make others free that much would hurt them for nothing.
Bytes untouched_of(const GuestSnapshot& guest, GuestState state, const Tunables& tunables) {
  const bool boots = state == GuestState::booting;
  if (guest.on_host.pinned || (guest.on_host.resident == Bytes{0} && !boots))
    return Bytes{0};  // or nobody knows
  const Bytes has = held(guest);
  const Bytes touched = add(guest.on_host.resident, guest.on_host.swapped);
  const Bytes rest = above(has, add(touched, tunables.margin_min));
  // What a guest is guaranteed is promised to it; so is what its balloon was asked for at its start.
  const Bytes promised =
      std::max(guest.limits.min, boots && guest.target < guest.memory ? guest.target : Bytes{0});
  const double soon = boots ? 0 : tunables.constants.touched_soon_ratio * static_cast<double>(rest);
  return std::min(above(rest, static_cast<Bytes>(soon)), above(has, promised));
}

/// The guest's state, and what holds for one that takes no part in the sharing.
void classify(const GuestSnapshot& guest, const Tunables& tunables, GuestDecision& mine, GuestPlan& plan) {
  if (!guest.controllable) {
    plan.state = guest.stats ? GuestState::disconnected : GuestState::booting;
    mine.movable = false;
  } else if (guest.pin) {
    plan.state = GuestState::pinned;
    plan.reason = Reason::pin;
    plan.target = plan.share =
        std::clamp(guest.pin->target, std::min(guest.limits.min, guest.memory), guest.memory);
    mine.movable = false;
  } else if (mine.stuck()) {
    plan.state = GuestState::stuck;
    plan.target = std::min(guest.actual, mine.history->progress.resting_at());
  } else if (mine.movable) {
    plan.state = GuestState::controlled;
  } else {
    plan.state = guest.stats ? GuestState::stale : GuestState::booting;
  }
  plan.untouched = untouched_of(guest, plan.state, tunables);
  if (!mine.movable && plan.state != GuestState::pinned)
    plan.need = plan.share = counted(plan, guest, guest.target);
}

std::uint32_t group_of(const GuestSnapshot& guest, const std::vector<GroupLimits>& groups) {
  if (guest.limits.group.empty()) return kNoGroup;
  const auto group = std::ranges::lower_bound(groups, guest.limits.group, {}, &GroupLimits::name);
  const bool found = group != groups.end() && group->name == guest.limits.group;
  return found ? static_cast<std::uint32_t>(group - groups.begin()) : kNoGroup;
}

/// One that cannot be moved has the one level that it is counted at; one whose balloon frees nothing, none
/// below that, until it is tried again.
Levels levels_of(const GuestSnapshot& guest, const GuestDecision& mine, const Demand::Estimate& estimate,
                 const GuestPlan& plan) {
  if (!mine.movable) return Levels::all_at(std::max(plan.share, counted(plan, guest, guest.target)));
  return estimate.levels.at_least(mine.stuck()           ? counted(plan, guest, guest.target)
                                  : guest.on_host.pinned ? held(guest)
                                                         : Bytes{0});
}

}  // namespace

void assess(Decision& decision, std::size_t index, GuestHistory& history) {
  const Snapshot& snapshot = decision.snapshot;
  const Tunables& tunables = decision.tunables;
  const GuestSnapshot& guest = snapshot.guests[index];
  GuestPlan& plan = decision.plan.guests[index];
  GuestDecision& mine = decision.guests[index];
  mine = {.history = &history};
  mine.deadband = std::max(tunables.deadband_min,
                           static_cast<Bytes>(tunables.deadband_ratio * static_cast<double>(held(guest))));
  plan.name = guest.name;
  plan.need = plan.share = held(guest);
  plan.target = guest.target;
  plan.reason = Reason::stale;

  const Judgement judged = judge_guest(snapshot, guest, tunables, history, plan.why);
  const Demand::Estimate estimate =
      judged.usable() ? history.demand.update(guest, judged, plan.why.source, snapshot.now,
                                              decision.actions().margin_factor,
                                              history.probing.held_for(snapshot.now) > Time{}, tunables)
                      : Demand::Estimate{};
  if (judged.usable()) {
    plan.used = estimate.used;
    plan.need = estimate.need;
    plan.why.need = estimate.terms;
    plan.why.pressure = mine.pressure = estimate.pressure;
    plan.why.signal = estimate.signal;
    if (estimate.pressure != Pressure::none) history.probing.grown(snapshot.now, tunables);
    if (estimate.doubted) plan.why.trust = Trust::limited;
    mine.grow_below = estimate.grow_below;
    mine.hot_cache = estimate.hot_cache;
    mine.available = above(judged.size, estimate.used);
    mine.free = free_in(guest, plan.why.source, mine.available);
    mine.sampled = judged.size;
    mine.movable = guest.controllable;
    mine.filling = estimate.filling;
  }
  mine.rests = guest.controllable && history.progress.stuck(guest, mine.available, snapshot.now, tunables);
  mine.tried = !mine.rests && mine.movable && history.progress.failed() &&
               guest.actual > add(estimate.levels[Level::need], mine.deadband);
  classify(guest, tunables, mine, plan);
  mine.outgrows =
      mine.movable && !mine.stuck() && outgrows(guest, estimate, history.progress.speed(tunables), tunables);
  mine.settling = mine.outgrows ? guest.actual : settling_at(guest);
  decision.consumers.push_back({.levels = levels_of(guest, mine, estimate, plan),
                                .weight = guest.limits.weight,
                                .group = group_of(guest, snapshot.groups)});
}

}  // namespace balloon::policy
