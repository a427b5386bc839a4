#include "policy/engine.h"

#include <algorithm>
#include <unordered_map>

#include "policy/demand.h"
#include "policy/progress.h"
#include "policy/water_filling.h"

namespace balloon::policy {
namespace {

constexpr Bytes kPage = 4096;
/// After a longer silence than this, rate limits count only this much time.
constexpr double kLongestTick = 5;

double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

/// What a guest holds or was promised.
Bytes held(const GuestSnapshot& guest) { return std::max(guest.actual, guest.target); }

/// Where the guest will be, at most, once the shrink that was asked of it is done.
Bytes settling_at(const GuestSnapshot& guest) { return std::min(guest.actual, guest.target); }

/// What the engine remembers of one guest.
struct Track {
  Demand demand;
  Progress progress;
  std::optional<Time> grown_at;
  std::uint64_t tick = 0;  ///< of the last decision that saw the guest
};

/// One guest within one decision.
struct Seat {
  Track* track = nullptr;
  bool movable = false;  ///< takes part in the sharing
  Bytes claim = 0;       ///< what a guest that does not is counted at
  bool pressure = false;
};

}  // namespace

struct Engine::Impl {
  Tunables tunables;
  std::unordered_map<std::string, Track> tracks;
  std::uint64_t tick = 0;
  std::optional<Time> last;
  double budget = 0;
  // Working space of one decision, kept to be reused.
  std::vector<Seat> seats;
  std::vector<Claim> claims;
  std::vector<Bytes> shares;

  Plan decide(const Snapshot& snapshot);
  Bytes update_budget(const Snapshot& snapshot, double elapsed);
  void assess(const GuestSnapshot& guest, Time now, Seat& seat, GuestPlan& plan);
  void share_out(const Snapshot& snapshot, Plan& plan);
  void set_targets(const Snapshot& snapshot, double elapsed, Plan& plan);
  Bytes shrink(const GuestSnapshot& guest, const Seat& seat, double elapsed, Time now, double urgency,
               bool others_idle, GuestPlan& plan) const;
  Bytes deadband(const GuestSnapshot& guest) const;
};

Engine::Engine(const Tunables& tunables) : impl_(std::make_unique<Impl>()) { impl_->tunables = tunables; }
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
void Engine::set_tunables(const Tunables& tunables) { impl_->tunables = tunables; }
Plan Engine::decide(const Snapshot& snapshot) { return impl_->decide(snapshot); }

Plan Engine::Impl::decide(const Snapshot& snapshot) {
  const double elapsed = last ? std::clamp(seconds(snapshot.now - *last), 0.0, kLongestTick) : 0.0;
  last = snapshot.now;
  ++tick;

  Plan plan;
  plan.budget = update_budget(snapshot, elapsed);
  plan.guests.resize(snapshot.guests.size());
  seats.assign(snapshot.guests.size(), {});
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    assess(snapshot.guests[i], snapshot.now, seats[i], plan.guests[i]);
  }
  if (tracks.size() > snapshot.guests.size()) {
    std::erase_if(tracks, [&](const auto& entry) { return entry.second.tick != tick; });
  }
  share_out(snapshot, plan);
  set_targets(snapshot, elapsed, plan);
  return plan;
}

/// What guests may have altogether: what they hold in RAM now and what the host could still give, less the
/// reserve. Memory in host swap is not counted, and of a guest's process no more than the guest's size (the
/// rest is the VMM's own).
Bytes Engine::Impl::update_budget(const Snapshot& snapshot, double elapsed) {
  const HostSnapshot& host = snapshot.host;
  double raw = static_cast<double>(std::min(host.available, host.total));
  for (const GuestSnapshot& guest : snapshot.guests)
    raw += static_cast<double>(std::min(guest.on_host.resident, guest.actual));
  raw = std::min(raw, static_cast<double>(host.total)) - static_cast<double>(tunables.host_reserve);
  raw = std::max(raw, 0.0);
  const double rise = tunables.budget_rise_ratio_per_second * static_cast<double>(host.total) * elapsed;
  budget = tick == 1 ? raw : std::min(raw, budget + rise);
  return static_cast<Bytes>(budget) / kPage * kPage;
}

void Engine::Impl::assess(const GuestSnapshot& guest, Time now, Seat& seat, GuestPlan& plan) {
  Track& track = tracks[guest.name];
  track.tick = tick;
  seat.track = &track;
  plan.name = guest.name;
  plan.need = plan.share = held(guest);
  plan.target = guest.target;
  plan.reason = Reason::stale;

  const bool fresh = guest.stats && now - guest.stats->sampled_at <= tunables.stale_after;
  if (fresh && Demand::usable(guest)) {
    const auto estimate = track.demand.update(guest, now, tunables);
    plan.used = estimate.used;
    plan.need = estimate.need;
    seat.pressure = estimate.pressure;
    seat.movable = guest.controllable;
  }
  const bool stuck = guest.controllable && track.progress.stuck(guest, now, tunables);
  if (!guest.controllable) {
    plan.state = guest.stats ? GuestState::disconnected : GuestState::booting;
  } else if (guest.pin) {
    plan.state = GuestState::pinned;
    plan.reason = Reason::pin;
    plan.target = plan.share =
        std::clamp(guest.pin->target, std::min(guest.limits.min, guest.memory), guest.memory);
    seat.movable = false;
  } else if (stuck) {
    plan.state = GuestState::stuck;
    plan.target = plan.share = guest.actual;
    seat.movable = false;
  } else if (seat.movable) {
    plan.state = GuestState::controlled;
  } else {
    plan.state = guest.stats ? GuestState::stale : GuestState::booting;
  }
  if (plan.state == GuestState::booting) {
    // Before its driver is up a guest has all of its boot memory, but uses little. To make others free the
    // rest in the meantime would hurt them for nothing.
    plan.need = plan.share =
        std::min(held(guest), std::max(guest.limits.min, guest.on_host.resident + tunables.margin_min));
    seat.claim = plan.share;
  } else {
    seat.claim = std::max(plan.share, guest.actual);
  }
}

/// Weighted water-filling of need between minimum and maximum, under what guests that cannot be moved leave
/// of the budget.
void Engine::Impl::share_out(const Snapshot& snapshot, Plan& plan) {
  Bytes fixed = 0;
  Bytes minimums = 0;
  Bytes needs = 0;
  claims.clear();
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    if (!seats[i].movable) {
      fixed += seats[i].claim;
      continue;
    }
    const Bytes low = std::min(guest.limits.min, guest.limits.max);
    const Bytes high = std::max(low, plan.guests[i].need);
    claims.push_back({low, high, guest.limits.weight});
    minimums += low;
    needs += high;
  }
  const Bytes shared = plan.budget > fixed ? plan.budget - fixed : 0;
  plan.state = minimums > shared ? HostState::infeasible
               : needs > shared  ? HostState::tight
                                 : HostState::normal;
  if (plan.state == HostState::normal && tunables.surplus == Surplus::guests) {
    std::size_t claim = 0;
    for (std::size_t i = 0; i < seats.size(); ++i) {
      if (!seats[i].movable) continue;
      claims[claim].low = claims[claim].high;
      claims[claim].high = std::max(claims[claim].low, snapshot.guests[i].limits.max);
      ++claim;
    }
  }
  water_fill(claims, shared, shares);
  std::size_t claim = 0;
  for (std::size_t i = 0; i < seats.size(); ++i) {
    if (seats[i].movable) plan.guests[i].share = shares[claim++];
  }
}

Bytes Engine::Impl::deadband(const GuestSnapshot& guest) const {
  return std::max(tunables.deadband_min,
                  static_cast<Bytes>(tunables.deadband_ratio * static_cast<double>(held(guest))));
}

/// Why a guest that gets its whole share gets just that.
Reason reason_for(const Plan& plan, const GuestPlan& mine, const GuestLimits& limits) {
  if (mine.share == limits.max) return Reason::maximum;
  if (plan.state != HostState::normal && mine.share < mine.need) return Reason::share;
  if (mine.share > mine.need) return Reason::surplus;
  return mine.share == limits.min ? Reason::minimum : Reason::need;
}

void Engine::Impl::set_targets(const Snapshot& snapshot, double elapsed, Plan& plan) {
  // How much must be freed, beyond what is being freed already, for everybody to have their share; and what
  // part that is of what guests have beyond theirs.
  double wanted = 0;
  double excess = 0;
  bool others_idle = false;
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    const Bytes share = plan.guests[i].share;
    if (!seats[i].movable) {
      wanted += static_cast<double>(seats[i].claim);
      continue;
    }
    wanted += static_cast<double>(std::max(settling_at(guest), share));
    if (settling_at(guest) > share) excess += static_cast<double>(settling_at(guest) - share);
    // Idle memory that nobody asked for yet; what is on its way already cannot be given twice.
    others_idle |= settling_at(guest) > std::max(share, plan.guests[i].need) + deadband(guest);
  }
  const double missing = wanted - static_cast<double>(plan.budget);
  const double urgency = missing <= 0 || excess <= 0 ? 0 : std::min(1.0, missing / excess);

  for (std::size_t i = 0; i < seats.size(); ++i) {
    if (!seats[i].movable) continue;
    const GuestSnapshot& guest = snapshot.guests[i];
    GuestPlan& mine = plan.guests[i];
    mine.target = mine.share;
    mine.reason = reason_for(plan, mine, guest.limits);
    const Bytes change = mine.share > guest.target ? mine.share - guest.target : guest.target - mine.share;
    const bool outside_limits = guest.target < guest.limits.min || guest.target > guest.limits.max;
    const bool worth_it =
        change >= deadband(guest) || outside_limits || (seats[i].pressure && mine.share > guest.target);
    if (change == 0) continue;
    if (!worth_it && !(urgency > 0 && mine.share < guest.target)) {
      mine.target = guest.target;
      if (mine.share > guest.target) mine.reason = Reason::deadband;
    } else if (settling_at(guest) > mine.share && !outside_limits) {
      mine.target = shrink(guest, seats[i], elapsed, snapshot.now, urgency, others_idle, mine);
    } else if (mine.target > guest.target && mine.target > guest.actual) {
      seats[i].track->grown_at = snapshot.now;
    }
  }
}

/// The next step down to the share. `urgency`: the part of what guests hold beyond their shares that others
/// wait for.
Bytes Engine::Impl::shrink(const GuestSnapshot& guest, const Seat& seat, double elapsed, Time now,
                           double urgency, bool others_idle, GuestPlan& plan) const {
  const Bytes from = settling_at(guest);
  if (seat.pressure && (others_idle || urgency <= 0)) {
    plan.reason = Reason::hold;
    return from;
  }
  const auto& grown_at = seat.track->grown_at;
  if (urgency <= 0 && grown_at && now >= *grown_at && now - *grown_at < tunables.hold) {
    plan.reason = Reason::hold;
    return guest.target;
  }
  const Bytes excess = from - plan.share;
  const double step = tunables.shrink_ratio_per_second * static_cast<double>(guest.memory) * elapsed;
  const auto least = static_cast<Bytes>(std::max(step, urgency * static_cast<double>(excess)));
  if (least >= excess) return plan.share;
  plan.reason = Reason::rate_limit;
  return from - least / kPage * kPage;
}

}  // namespace balloon::policy
