// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/engine.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/pages.h"
#include "policy/peers/balloond1/allocation.h"
#include "policy/peers/balloond1/budget.h"
#include "policy/peers/balloond1/demand.h"
#include "policy/peers/balloond1/holdings.h"
#include "policy/peers/balloond1/host_state.h"
#include "policy/peers/balloond1/ksm.h"
#include "policy/peers/balloond1/otherwise.h"
#include "policy/peers/balloond1/probing.h"
#include "policy/peers/balloond1/progress.h"
#include "policy/peers/balloond1/rate.h"
#include "policy/peers/balloond1/reclaim.h"
#include "policy/peers/balloond1/reservations.h"
#include "policy/peers/balloond1/trust.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// After a longer silence than this, rate limits count only this much time.
constexpr double kLongestTick = 5;
/// For a guest under pressure the deadband is finer by this.
constexpr unsigned kPressedFiner = 4;
/// What is free in guests is taken at once until this part of the headroom is free. The rest of it comes by
/// itself as memory is probed, or is given back: to take that at once, too, moves more and costs others their
/// cache.
constexpr double kRefill = 0.5;
/// Memory for more page cache is given in steps of at least this part of what a guest has: it is no hurry.
constexpr unsigned kCacheStep = 8;

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

/// What the engine remembers of one guest.
struct Track {
  Demand demand;
  Progress progress;
  Probing probing;
  std::optional<Time> blind_since;  ///< without statistics that can be believed
  std::uint64_t tick = 0;           ///< of the last decision that saw the guest
};
using Tracks = std::unordered_map<std::string, Track>;

/// One guest within one decision.
struct Seat {
  Tracks::value_type* entry = nullptr;
  bool movable = false;   ///< takes part in the sharing
  bool stuck = false;     ///< its balloon frees nothing
  bool over = false;      ///< its group has more than it may, and it more than its share of that
  Bytes need{};           ///< what others give page cache for
  Bytes settling{};       ///< where it will be, at most, once its shrink is done or stopped
  bool outgrows = false;  ///< its balloon: that stops where it is, unless others wait for the rest
  Bytes claim{};          ///< what others free for it, if it is free in them
  Bytes low{};            ///< of its need: grown when it has less
  Bytes hot{};            ///< page cache in use
  Bytes free{};
  Bytes available{};
  Bytes sampled{};  ///< its size when that was so
  Bytes deadband{};
  Pressure pressure = Pressure::none;
  Excess excess{};

  Track& track() const { return entry->second; }
};

}  // namespace

struct Engine::Impl {
  Tunables tunables;
  Tracks tracks;
  std::uint64_t tick = 0;
  std::optional<Time> last;
  double elapsed = 0;  ///< seconds since the decision before
  HostMonitor monitor;
  Budget budget;
  Allocation allocation;
  Reservations reservations;
  KsmGovernor ksm;
  double liking = 1;     ///< of what guests would like beyond their needs, what is free
  bool awaited = false;  ///< memory that guests hold is needed elsewhere
  // Working space of one decision, kept to be reused.
  std::vector<Seat> seats;
  std::vector<Party> parties;  ///< guests, then reservations
  std::vector<Bytes> group_held;
  Reclaim reclaim;

  Plan decide(const Snapshot& snapshot);
  void begin(const Snapshot& snapshot);
  Tracks::value_type& track_of(const GuestSnapshot& guest, std::size_t index, Time now);
  void assess(const Snapshot& snapshot, std::size_t index, Plan& plan);
  Judgement believe(const Snapshot& snapshot, const GuestSnapshot& guest, Track& track, Explanation& why);
  void classify(const GuestSnapshot& guest, Seat& seat, GuestPlan& plan);
  Party party_of(const Snapshot& snapshot, const GuestSnapshot& guest, const Seat& seat,
                 const Demand::Estimate& estimate, const GuestPlan& plan) const;
  Means means(const Snapshot& snapshot, Bytes budget) const;
  Bytes headroom(Bytes budget_bytes) const;
  /// Of a guest's boot memory, what is taken a second though nobody waits for it.
  double shrink_ratio(const StateActions& actions) const {
    return std::max(tunables.shrink_ratio_per_second, actions.shrink_ratio_per_second);
  }
  void share_out(const Snapshot& snapshot, Plan& plan);
  void ask_donors(const Snapshot& snapshot, const Plan& plan);
  void set_targets(const Snapshot& snapshot, Plan& plan);
  void set_target(const GuestSnapshot& guest, Time now, const StateActions& actions, const Plan& plan,
                  Seat& seat, GuestPlan& mine);
  Bytes shrink(const GuestSnapshot& guest, const Seat& seat, Time now, const StateActions& actions,
               GuestPlan& mine) const;
  void keep_reservations(const Snapshot& snapshot, Plan& plan);
};

Engine::Engine(const Tunables& tunables) : impl_(std::make_unique<Impl>()) { impl_->tunables = tunables; }
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
void Engine::set_tunables(const Tunables& tunables) { impl_->tunables = tunables; }
Plan Engine::decide(const Snapshot& snapshot) { return impl_->decide(snapshot); }

Plan Engine::Impl::decide(const Snapshot& snapshot) {
  begin(snapshot);
  Plan plan;
  plan.level = monitor.update(snapshot.host, snapshot.now, tunables);
  plan.budget = budget.update(snapshot, elapsed, tunables);
  plan.guests.resize(snapshot.guests.size());
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) assess(snapshot, i, plan);
  reservations.review(snapshot, means(snapshot, plan.budget), parties);
  share_out(snapshot, plan);
  ask_donors(snapshot, plan);
  set_targets(snapshot, plan);
  keep_reservations(snapshot, plan);
  double needed = static_cast<double>(reservations.kept());
  for (const GuestPlan& guest : plan.guests) needed += static_cast<double>(guest.need);
  plan.ksm = ksm.update(snapshot, plan, needed, tunables);
  return plan;
}

void Engine::Impl::begin(const Snapshot& snapshot) {
  elapsed = last ? std::clamp(seconds(since(*last, snapshot.now)), 0.0, kLongestTick) : 0.0;
  last = snapshot.now;
  ++tick;
  if (tracks.size() > 2 * snapshot.guests.size()) {
    std::erase_if(tracks, [&](const auto& entry) { return entry.second.tick + 1 != tick; });
    seats.clear();
  }
  seats.resize(snapshot.guests.size());
  parties.clear();
}

/// Guests mostly stand where they stood in the decision before: that saves looking them up.
Tracks::value_type& Engine::Impl::track_of(const GuestSnapshot& guest, std::size_t index, Time now) {
  Tracks::value_type* entry = seats[index].entry;
  if (entry == nullptr || entry->first != guest.name) {
    const auto [found, is_new] = tracks.try_emplace(guest.name);
    entry = &*found;
    // One that was away for a while is a new one of the same name.
    if (is_new || entry->second.tick + 1 != tick) {
      entry->second = Track{};
      entry->second.probing.adopt(now, tunables);
    }
  }
  entry->second.tick = tick;
  return *entry;
}

/// What can be believed of the guest, and from where: its own statistics, or what the host sees when there
/// have been none for long.
Judgement Engine::Impl::believe(const Snapshot& snapshot, const GuestSnapshot& guest, Track& track,
                                Explanation& why) {
  const HostSnapshot& host = snapshot.host;
  Judgement judged = judge(guest, snapshot.now, above(host.swap_total, host.swap_free), tunables);
  why.trust = judged.trust;
  if (guest.stats) why.age = std::max(Time{}, since(guest.stats->sampled_at, snapshot.now));
  if (judged.usable()) {
    track.blind_since.reset();
    why.source = Source::statistics;
  } else if (!guest.controllable) {
    track.blind_since.reset();
  } else if (!track.blind_since || *track.blind_since > snapshot.now) {
    track.blind_since = snapshot.now;
  } else if (!within(*track.blind_since, snapshot.now, tunables.blind_after)) {
    judged = judge_by_host(guest);
    if (judged.usable()) why.source = Source::host;
  }
  why.available = judged.available;
  return judged;
}

void Engine::Impl::assess(const Snapshot& snapshot, std::size_t index, Plan& plan) {
  const GuestSnapshot& guest = snapshot.guests[index];
  GuestPlan& mine = plan.guests[index];
  Tracks::value_type& entry = track_of(guest, index, snapshot.now);
  Track& track = entry.second;
  Seat& seat = seats[index];
  seat = {};
  seat.entry = &entry;
  seat.deadband = std::max(tunables.deadband_min,
                           static_cast<Bytes>(tunables.deadband_ratio * static_cast<double>(held(guest))));
  mine.name = guest.name;
  mine.need = mine.share = held(guest);
  mine.target = guest.target;
  mine.reason = Reason::stale;

  const Judgement judged = believe(snapshot, guest, track, mine.why);
  Demand::Estimate estimate;
  if (judged.usable()) {
    estimate = track.demand.update(guest, judged, mine.why.source, snapshot.now,
                                   actions_in(plan.level, tunables.actions).margin_factor, tunables);
    mine.used = estimate.used;
    mine.need = estimate.need;
    mine.why.need = estimate.terms;
    mine.why.pressure = seat.pressure = estimate.pressure;
    mine.why.signal = estimate.signal;
    if (estimate.pressure != Pressure::none) track.probing.grown(snapshot.now, tunables);
    seat.low = estimate.low;
    seat.hot = estimate.cache;
    seat.available = above(judged.size, estimate.used);
    seat.sampled = judged.size;
    if (estimate.doubted) mine.why.trust = Trust::limited;
    seat.free = free_in(guest, mine.why.source, seat.available);
    seat.movable = guest.controllable;
  }
  seat.stuck = guest.controllable && track.progress.stuck(guest, seat.available, snapshot.now, tunables);
  classify(guest, seat, mine);
  seat.outgrows =
      seat.movable && !seat.stuck && outgrows(guest, estimate, track.progress.speed(tunables), tunables);
  seat.settling = seat.outgrows ? guest.actual : settling_at(guest);
  parties.push_back(party_of(snapshot, guest, seat, estimate, mine));
  seat.need = parties.back().need;
  seat.claim = parties.back().claim;
}

/// The guest's state, and what holds for one that takes no part in the sharing.
void Engine::Impl::classify(const GuestSnapshot& guest, Seat& seat, GuestPlan& plan) {
  if (!guest.controllable) {
    plan.state = guest.stats ? GuestState::disconnected : GuestState::booting;
    seat.movable = false;
  } else if (guest.pin) {
    plan.state = GuestState::pinned;
    plan.reason = Reason::pin;
    plan.target = plan.share =
        std::clamp(guest.pin->target, std::min(guest.limits.min, guest.memory), guest.memory);
    seat.movable = false;
  } else if (seat.stuck) {
    plan.state = GuestState::stuck;
    plan.target = plan.share = std::min(guest.actual, seat.track().progress.resting_at());
  } else if (seat.movable) {
    plan.state = GuestState::controlled;
  } else {
    plan.state = guest.stats ? GuestState::stale : GuestState::booting;
  }
  if (plan.state == GuestState::booting) {
    // Before its driver is up a guest has all of its boot memory, but uses little. To make others free the
    // rest in the meantime would hurt them for nothing.
    // One whose balloon was asked for something at its start has at least that: it was reserved for it.
    const Bytes reserved = guest.target < guest.memory ? guest.target : Bytes{0};
    const Bytes touched = add(guest.on_host.resident, tunables.margin_min);
    plan.need = plan.share = std::min(held(guest), std::max({guest.limits.min, reserved, touched}));
  }
}

/// The guest as a party to the sharing: one that cannot be moved claims just what it is counted at; one whose
/// balloon frees nothing, at least what it has.
Party Engine::Impl::party_of(const Snapshot& snapshot, const GuestSnapshot& guest, const Seat& seat,
                             const Demand::Estimate& estimate, const GuestPlan& plan) const {
  Party party{.weight = guest.limits.weight};
  if (!guest.limits.group.empty()) {
    const auto group = std::ranges::lower_bound(snapshot.groups, guest.limits.group, {}, &GroupLimits::name);
    if (group != snapshot.groups.end() && group->name == guest.limits.group)
      party.group = static_cast<std::uint32_t>(group - snapshot.groups.begin());
  }
  if (!seat.movable) {
    const Bytes claim = plan.state == GuestState::booting ? plan.share : std::max(plan.share, guest.actual);
    party.low = party.firm = party.need = party.claim = party.calm = party.keep = party.most = claim;
    return party;
  }
  const Bytes floor = seat.stuck ? guest.actual : guest.on_host.pinned ? held(guest) : Bytes{0};
  party.low = std::max(std::min(guest.limits.min, guest.limits.max), floor);
  party.firm = std::max(party.low, estimate.firm);
  party.need = std::max(party.firm, estimate.now);
  party.claim = std::max(party.need, estimate.claim);
  party.calm = std::max(party.claim, estimate.calm);
  party.keep = std::max(party.calm, estimate.keep);
  party.most = std::max(party.keep, guest.limits.max);
  return party;
}

Means Engine::Impl::means(const Snapshot& snapshot, Bytes budget_bytes) const {
  Means means{.budget = budget_bytes};
  if (snapshot.reservations.empty()) return means;
  double free = static_cast<double>(budget_bytes) - static_cast<double>(reservations.kept());
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    free -= static_cast<double>(seats[i].movable ? held(guest) : parties[i].low);
    if (seats[i].movable && !guest.on_host.pinned) means.speed += seats[i].track().progress.speed(tunables);
  }
  means.free = static_cast<Bytes>(std::max(0.0, free));
  return means;
}

/// What of the budget should stay free, for whoever needs it next.
Bytes Engine::Impl::headroom(Bytes budget_bytes) const {
  return static_cast<Bytes>(std::clamp(tunables.headroom_ratio, 0.0, 1.0) *
                            static_cast<double>(budget_bytes));
}

void Engine::Impl::share_out(const Snapshot& snapshot, Plan& plan) {
  plan.state =
      allocation.share(parties, snapshot.groups, plan.budget, headroom(plan.budget), tunables.surplus);
  if (plan.state != HostState::infeasible && plan.level != HostState::normal &&
      (plan.level != HostState::tight || plan.state == HostState::normal)) {
    plan.state = plan.level;
  }
  group_held.assign(snapshot.groups.size(), Bytes{});
  for (std::size_t i = 0; i < seats.size(); ++i) {
    if (seats[i].movable) plan.guests[i].share = allocation.shares()[i];
    if (parties[i].group != kNoGroup) group_held[parties[i].group] += seats[i].settling;
  }
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const std::uint32_t group = parties[i].group;
    seats[i].over = group != kNoGroup && group_held[group] > snapshot.groups[group].max &&
                    seats[i].settling > plan.guests[i].share;
  }
}

/// How much must be freed, beyond what is being freed already, for everybody to have their share; and from
/// whom to ask it. Page cache and more is asked only for what is needed; for what is expected, and for the
/// headroom, what is free in guests.
void Engine::Impl::ask_donors(const Snapshot& snapshot, const Plan& plan) {
  double needed = 0;
  double wanted = 0;
  double free = static_cast<double>(plan.budget);
  double liked = 0;
  bool others_idle = false;
  reclaim.clear();
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    const Bytes share = plan.guests[i].share;
    Seat& seat = seats[i];
    if (!seat.movable) {
      needed += static_cast<double>(parties[i].low);
      wanted += static_cast<double>(parties[i].low);
      free -= static_cast<double>(parties[i].low);
      continue;
    }
    const Bytes settling = seat.settling;
    // More than is needed comes only out of what is free.
    const Bytes claim = std::min(share, seat.claim);
    needed += static_cast<double>(std::max(settling, std::min(share, seat.need)));
    wanted += static_cast<double>(std::max(settling, claim));
    free -= static_cast<double>(std::max(held(guest), claim));
    if (share > std::max(held(guest), claim))
      liked += static_cast<double>(share - std::max(held(guest), claim));
    if (settling <= share) continue;
    // What was taken since its sample was the cheapest, and is not there again.
    const Bytes taken = above(seat.sampled, settling);
    seat.excess = split(settling - share, above(seat.available, taken), above(seat.free, taken), seat.hot,
                        seat.pressure);
    reclaim.add(seat.excess);
    // Idle memory that nobody asked for yet; what is on its way already cannot be given twice.
    others_idle |= settling > add(std::max(share, plan.guests[i].need), seat.deadband);
  }
  const auto shares = allocation.shares().subspan(seats.size());
  for (const Bytes share : shares) {
    needed += static_cast<double>(share);
    wanted += static_cast<double>(share);
    free -= static_cast<double>(share);
  }
  liking = liked <= 0 ? 1 : std::clamp(free / liked, 0.0, 1.0);

  const StateActions& actions = actions_in(plan.level, tunables.actions);
  const auto whole = static_cast<double>(plan.budget);
  const auto pool = static_cast<double>(headroom(plan.budget));
  awaited = wanted > whole;
  reclaim.ask(wanted + kRefill * pool - whole, Cost::free);
  reclaim.ask(needed - whole, others_idle && !actions.pressed_give ? Cost::anonymous : Cost::pressed);
  if (actions.full_speed) reclaim.ask_everything();
}

/// Why a guest that gets its whole share gets just that.
Reason reason_for(const Plan& plan, const GuestPlan& mine, const GuestLimits& limits) {
  if (mine.share == limits.max) return Reason::maximum;
  if (mine.share < mine.need) return Reason::share;
  if (mine.share > mine.need && plan.state == HostState::normal) return Reason::surplus;
  return mine.share == limits.min ? Reason::minimum : Reason::need;
}

void Engine::Impl::set_targets(const Snapshot& snapshot, Plan& plan) {
  const StateActions& actions = actions_in(plan.level, tunables.actions);
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    Seat& seat = seats[i];
    GuestPlan& mine = plan.guests[i];
    if (seat.movable) set_target(guest, snapshot.now, actions, plan, seat, mine);
    const std::uint32_t group = parties[i].group;
    const Outlook outlook{
        .group_full = group != kNoGroup && allocation.group_share(parties[i]) >= snapshot.groups[group].max,
        .deadband = seat.deadband,
        .held_for = seat.track().probing.held_for(snapshot.now),
        .outgrows = seat.outgrows,
        .shrink_per_second = shrink_ratio(actions) * static_cast<double>(guest.memory)};
    mine.why.otherwise = what_else(mine, guest, outlook);
  }
}

void Engine::Impl::set_target(const GuestSnapshot& guest, Time now, const StateActions& actions,
                              const Plan& plan, Seat& seat, GuestPlan& mine) {
  if (seat.stuck && mine.share < add(guest.actual, seat.deadband)) {
    // A driver that cannot reach its target burns guest CPU retrying.
    mine.target = std::min(guest.actual, seat.track().progress.resting_at());
    mine.reason = Reason::stale;
    return;
  }
  mine.target = mine.share;
  mine.reason = reason_for(plan, mine, guest.limits);
  if (mine.share == guest.target) return;
  const bool outside_limits = guest.target < guest.limits.min || guest.target > guest.limits.max || seat.over;
  if (seat.outgrows && mine.share < guest.actual && guest.actual <= guest.limits.max && !outside_limits &&
      reclaim.asked(seat.excess) <= 0) {
    mine.target = guest.actual;
    mine.reason = Reason::hold;
    return;
  }
  if (mine.share > guest.target) {
    const bool pressed = seat.pressure != Pressure::none;
    const Bytes sure = std::max(held(guest), std::min(mine.share, seat.claim));
    if (mine.share > sure)
      mine.target = sure + whole_pages(static_cast<Bytes>(liking * static_cast<double>(mine.share - sure)));
    // More than it needs is for page cache, or for a burst to come: that has time until it is a good deal.
    const Bytes change = above(mine.target, guest.target);
    const bool worth_it =
        pressed ? change >= seat.deadband / kPressedFiner
        : guest.target < seat.low
            ? change >= seat.deadband
            : mine.target > mine.need && change >= std::max(seat.deadband, guest.target / kCacheStep);
    if (!worth_it && !outside_limits) {
      mine.target = guest.target;
      mine.reason = Reason::deadband;
    } else if (mine.target > guest.actual) {
      seat.track().probing.grown(now, tunables);
    }
    return;
  }
  if (seat.settling <= mine.share || outside_limits) return;
  if (guest.target - mine.share < seat.deadband && !awaited) {
    mine.target = guest.target;
    return;
  }
  mine.target = shrink(guest, seat, now, actions, mine);
  if (mine.target < guest.target) seat.track().probing.shrunk();
}

/// The next step down to the share.
Bytes Engine::Impl::shrink(const GuestSnapshot& guest, const Seat& seat, Time now,
                           const StateActions& actions, GuestPlan& mine) const {
  const Bytes from = seat.settling;
  const Bytes excess = from - mine.share;
  const double asked = reclaim.asked(seat.excess);
  const bool held_back = seat.pressure != Pressure::none || seat.track().probing.held_for(now) > Time{};
  if (asked <= 0 && held_back) {
    mine.reason = Reason::hold;
    if (seat.pressure == Pressure::none) return guest.target;
    return std::min(guest.actual, std::max(guest.limits.max, guest.target));  // it stops where it is
  }
  double step = asked > 0 ? std::max(asked, static_cast<double>(seat.deadband)) : 0;
  if (!held_back) step = std::max(step, shrink_ratio(actions) * static_cast<double>(guest.memory) * elapsed);
  if (step >= static_cast<double>(excess)) return mine.share;
  mine.reason = Reason::rate_limit;
  return from - whole_pages(static_cast<Bytes>(step));
}

/// Reservations keep what is free, once guests under pressure have what they are given.
void Engine::Impl::keep_reservations(const Snapshot& snapshot, Plan& plan) {
  if (snapshot.reservations.empty()) return;
  double free = static_cast<double>(plan.budget) - static_cast<double>(reservations.kept());
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    const Bytes target = plan.guests[i].target;
    const Bytes most = seats[i].pressure != Pressure::none ? target : std::min(target, held(guest));
    free -= static_cast<double>(seats[i].movable ? std::max(guest.actual, most) : parties[i].low);
  }
  reservations.keep(snapshot, allocation.shares().subspan(seats.size()),
                    static_cast<Bytes>(std::max(0.0, free)), plan);
}

}  // namespace balloon::policy::peers::balloond1
