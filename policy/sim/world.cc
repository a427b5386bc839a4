// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/world.h"

#include <algorithm>

#include "base/pages.h"
#include "policy/sim/random.h"

namespace balloon::policy::sim {
namespace {

constexpr double kKernelPart = 0.06;
constexpr double kKernelLeast = 64 * kMiBd;
// Streams of random numbers beside a guest's signals (1 to 8).
constexpr std::uint64_t kOffsetStream = 11;
constexpr std::uint64_t kChannelStream = 12;
constexpr std::uint64_t kHostStream = 1'000'003;
/// A guest that boots has its kernel at once, and programs that grow to what they want over this part of it.
constexpr double kBootKernelFirst = 0.2;
/// More than this is not too much but everything.
constexpr int kSettlingSteps = 10'000;
/// Guests never stop altogether for what the host's kernel does.
constexpr double kLeastCpu = 0.1;

double default_kernel(Bytes memory) {
  return std::max(kKernelLeast, kKernelPart * static_cast<double>(memory));
}

Bytes whole(double bytes) { return whole_pages(static_cast<Bytes>(std::max(0.0, bytes))); }

}  // namespace

std::uint64_t guest_seed(std::uint64_t seed, std::size_t guest) { return mix_seed(seed, (guest + 1) * 16); }
std::uint64_t host_seed(std::uint64_t seed) { return mix_seed(seed, kHostStream); }

GuestSignals::GuestSignals(const GuestSpec& spec, std::uint64_t seed, Time duration)
    : anon(spec.anon, spec.shift, mix_seed(seed, 1), duration),
      hot(spec.hot, spec.shift, mix_seed(seed, 2), duration),
      cold(spec.cold, spec.shift, mix_seed(seed, 3), duration),
      kernel(spec.kernel.empty() ? constant(default_kernel(spec.memory)) : spec.kernel, spec.shift,
             mix_seed(seed, 4), duration),
      mergeable(spec.mergeable, spec.shift, mix_seed(seed, 5), duration),
      busy(spec.busy, spec.shift, mix_seed(seed, 6), duration),
      stream(spec.stream, spec.shift, mix_seed(seed, 7), duration),
      arc(spec.arc, spec.shift, mix_seed(seed, 8), duration) {}

Wants GuestSignals::at(Time now) {
  return {anon.at(now),      hot.at(now),  cold.at(now),   kernel.at(now),
          mergeable.at(now), busy.at(now), stream.at(now), arc.at(now)};
}

HostSignals::HostSignals(const HostSpec& spec, std::uint64_t seed, Time duration)
    : own(spec.own, Time{}, mix_seed(seed, 1), duration),
      cache(spec.cache, Time{}, mix_seed(seed, 2), duration),
      arc(spec.arc, Time{}, mix_seed(seed, 3), duration) {}

HostWants HostSignals::at(Time now) { return {own.at(now), cache.at(now), arc.at(now)}; }

World::World(const Scenario& scenario, std::uint64_t seed)
    : scenario_(&scenario),
      host_(scenario.host, 0),
      host_signals_(scenario.host, host_seed(seed), scenario.duration) {
  const std::size_t count = scenario.guests.size();
  guests_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const GuestSpec& spec = scenario.guests[i];
    guests_.emplace_back(spec, scenario.speeds);
    signals_.emplace_back(spec, guest_seed(seed, i), scenario.duration);
    Random random(mix_seed(guest_seed(seed, i), kOffsetStream));
    const Time offset = kStep * static_cast<std::int64_t>(
                                    random.below(static_cast<std::uint64_t>(spec.stats.period / kStep)));
    channels_.emplace_back(spec.stats, offset, mix_seed(guest_seed(seed, i), kChannelStream),
                           scenario.host.effects.as_balloond);
    limits_.push_back(spec.limits);
    targets_.push_back(spec.memory);
    if (spec.reservation) {
      ReservationOutcome outcome;
      outcome.guest = i;
      outcome.asked_at = spec.reservation->at;
      reservations_.push_back(outcome);
    }
  }
  wants_.resize(count);
  expected_.assign(count, 0);
  boots_.assign(count, Time{});
  restart_at_.assign(count, Time{-1});
  hang_.assign(count, 0);
  silent_.assign(count, 0);
  lie_.assign(count, Lie::none);
  held_back_.assign(count, 0);
  unlinked_.assign(count, 0);
  known_.assign(count, Bytes{});
  stalled_.assign(count, 0);
  std::ranges::sort(reservations_, [](const auto& a, const auto& b) {
    return a.asked_at != b.asked_at ? a.asked_at < b.asked_at : a.guest < b.guest;
  });
  misbehaving_ = !scenario.events.empty();
  for (std::size_t i = 0; i < count; ++i) {
    const GuestSpec& spec = scenario.guests[i];
    if (spec.reservation || spec.joins > Time{}) continue;
    wants_[i] = signals_[i].at(Time{});
    guests_[i].start(wants_[i]);
    expected_[i] = 1;
    boots_[i] = -spec.boot;
  }
  host_.take_account(guests_);
  if (scenario.host.effects.device_costs) settle_host();
  come_and_go();
  handle_events();
}

/// Guests have run for a while: what is too much for the host is in its swap already.
void World::settle_host() {
  for (int step = 0; step < kSettlingSteps && host_.memory().free < 0; ++step) {
    host_.begin_step(host_signals_.at(Time{}));
    host_.end_step(Time{}, guests_, wants_);
  }
}

void World::start_guest(std::size_t guest, std::optional<Bytes> size) {
  guests_[guest].boot(now_);
  channels_[guest].reset(now_);
  stalled_[guest] = 0;
  expected_[guest] = 1;
  boots_[guest] = now_;
  targets_[guest] = scenario_->guests[guest].memory;
  if (size && *size < targets_[guest]) {
    targets_[guest] = *size;
    guests_[guest].command(*size, now_);
  }
}

void World::come_and_go() {
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    const GuestSpec& spec = scenario_->guests[i];
    if (!spec.reservation && spec.joins > Time{} && now_ >= spec.joins && now_ < spec.joins + kStep)
      start_guest(i, std::nullopt);
    if (spec.leaves && now_ >= *spec.leaves && expected_[i] != 0) {
      guests_[i].stop();
      expected_[i] = 0;
      restart_at_[i] = Time{-1};
    }
    if (restart_at_[i] >= Time{} && now_ >= restart_at_[i]) {
      restart_at_[i] = Time{-1};
      start_guest(i, std::nullopt);
    }
  }
  for (ReservationOutcome& outcome : reservations_) {
    if (outcome.asked_at <= now_ && now_ < outcome.asked_at + kStep) {
      const double spare = host_.memory().free - host_.low_watermark();
      outcome.missing_at_request =
          std::max(0.0, static_cast<double>(scenario_->guests[outcome.guest].reservation->min) - spare);
    }
    if (outcome.state != GrantState::granted || outcome.started || now_ < outcome.starts_at) continue;
    outcome.started = true;
    start_guest(outcome.guest, outcome.granted);
  }
}

void World::handle_events() {
  if (!misbehaving_) return;
  std::ranges::fill(hang_, 0);
  std::ranges::fill(silent_, 0);
  std::ranges::fill(unlinked_, 0);
  std::ranges::fill(lie_, Lie::none);
  for (const Event& event : scenario_->events) {
    if (event.at > now_) break;
    if (event.until <= now_ && event.kind != Event::Kind::limits_change) continue;
    for (std::size_t i = 0; i < guests_.size(); ++i) {
      if (scenario_->guests[i].name != event.guest) continue;
      if (event.kind == Event::Kind::backend_hangs) hang_[i] = silent_[i] = 1;
      if (event.kind == Event::Kind::stats_silent) silent_[i] = 1;
      if (event.kind == Event::Kind::link_lost) silent_[i] = unlinked_[i] = 1;
      if (event.kind == Event::Kind::stats_lie) lie_[i] = event.lie;
      if (event.kind == Event::Kind::limits_change) limits_[i] = event.limits;
    }
  }
  follow_links();
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    if (held_back_[i] == 0 || hang_[i] != 0) continue;
    held_back_[i] = 0;
    guests_[i].command(targets_[i], now_ + scenario_->guests[i].command_latency);
  }
}

/// A VMM that lost its connection is known as it was then; one that has it again registers anew.
void World::follow_links() {
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    if ((unlinked_[i] == 0) == channels_[i].linked()) continue;
    if (unlinked_[i] != 0) {
      known_[i] = guests_[i].actual();
      channels_[i].lose_link();
    } else {
      channels_[i].reset(now_);
    }
  }
}

/// As the daemon sees it.
bool World::controllable(std::size_t guest) const {
  return channels_[guest].linked() && guests_[guest].driver_up(now_);
}

bool World::daemon_up() const {
  return std::ranges::none_of(scenario_->events, [&](const Event& event) {
    return event.kind == Event::Kind::daemon_down && event.at <= now_ && now_ < event.until;
  });
}

void World::forget_statistics() {
  for (StatsChannel& channel : channels_) channel.reset(now_);
}

void World::step() {
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    Wants& wants = wants_[i];
    wants = signals_[i].at(now_);
    const Time up = now_ - boots_[i];
    const Time boot = scenario_->guests[i].boot;
    if (up >= boot || boot <= Time{}) continue;
    const double part = static_cast<double>(up.count()) / static_cast<double>(boot.count());
    wants.anon *= part;
    wants.hot *= part;
    wants.cold *= part;
    wants.stream *= part;
    wants.arc *= part;
    wants.kernel *= std::max(kBootKernelFirst, part);
  }
  host_.begin_step(host_signals_.at(now_));
  step_guests();
  const int killed = host_.end_step(now_, guests_, wants_);
  if (killed >= 0) {
    const auto victim = static_cast<std::size_t>(killed);
    guests_[victim].stop();
    restart_at_[victim] = now_ + kGuestRestart;
    host_.take_account(guests_);
  }
  now_ += kStep;
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    stalled_[i] = guests_[i].host_stalled() + (stalled_[i] - guests_[i].host_stalled()) * kAvg10Keep;
    if (guests_[i].running()) channels_[i].step(now_, guests_[i], silent_[i] != 0, lie_[i]);
  }
  come_and_go();
  handle_events();
}

/// What part of a CPU each guest that is busy gets.
double World::cpu_for_each() const {
  const std::uint32_t cpus = scenario_->speeds.cpus;
  if (cpus == 0) return 1;
  std::uint32_t busy = 0;
  for (std::size_t i = 0; i < guests_.size(); ++i) busy += guests_[i].tasks(now_, wants_[i]) > 0 ? 1 : 0;
  // What the host's kernel compresses, it compresses on the same CPUs.
  const double left = std::max(kLeastCpu, cpus - host_.swap_cpu() / kStepSeconds);
  return busy <= left ? 1 : left / busy;
}

/// When the host has less than the guests could use in a step, each gets the same part of what it could use.
void World::step_guests() {
  const double room = host_.room();
  const bool swapping = host_.memory().swapped > 0;
  double part = 1;
  if (room < static_cast<double>(guests_.size()) * scenario_->speeds.install * kStepSeconds) {
    double wanted = 0;
    for (std::size_t i = 0; i < guests_.size(); ++i) {
      if (guests_[i].running()) wanted += guests_[i].wants_installed(wants_[i]);
    }
    if (wanted > room) part = room / wanted;
  }
  const double cpu = cpu_for_each();
  const double collapsed =
      kCollapse * kStepSeconds / static_cast<double>(std::max<std::size_t>(1, guests_.size()));
  double swap_total = 0;
  if (swapping) {
    for (const GuestPlant& guest : guests_) swap_total += guest.memory().host_swapped();
  }
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    HostGrant grant;
    grant.cpu = cpu;
    grant.collapsed = collapsed;
    if (part < 1) grant.install = part * guests_[i].wants_installed(wants_[i]);
    if (swapping && swap_total > 0) {
      grant.swap_in = host_.swap_budget() * guests_[i].memory().host_swapped() / swap_total;
      grant.swap_latency = std::chrono::duration<double>(host_.swap().latency).count();
      grant.swap_at_once = host_.swap().at_once;
    }
    guests_[i].step(now_, wants_[i], grant);
  }
}

void World::snapshot(Snapshot& snapshot) const {
  snapshot.now = now_;
  const HostMemory& memory = host_.memory();
  HostSnapshot& host = snapshot.host;
  host.total = scenario_->host.memory;
  host.free = whole(memory.free);
  host.available = whole(host_.available());
  host.arc = whole(host_.arc_spare());
  host.swap_total = scenario_->host.swap.size;
  host.swap_free = above(host.swap_total, whole(memory.swapped));
  host.swap_in = whole(host_.counters().swap_in);
  host.swap_out = whole(host_.counters().swap_out);
  host.pressure_some = host_.pressure_some();
  host.pressure_full = host_.pressure_full();
  if (scenario_->host.ksm.present) {
    const KsmSpec& ksm = host_.ksm();
    host.ksm = KsmSnapshot{.running = ksm.run,
                           .shared = host_.ksm_shared(),
                           .sharing = host_.ksm_sharing(),
                           .unshared = host_.ksm_unshared(),
                           .pages_to_scan = ksm.pages_to_scan,
                           .sleep = ksm.sleep,
                           .controllable = true};
  }
  const bool as_balloond = scenario_->host.effects.as_balloond;
  seen_.clear();
  std::size_t count = 0;
  snapshot.guests.resize(guests_.size());
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    if (!guests_[i].running()) continue;
    const GuestSpec& spec = scenario_->guests[i];
    const GuestMemory& mine = guests_[i].memory();
    GuestSnapshot& seen = snapshot.guests[count++];
    seen_.push_back(i);
    seen.name = spec.name;
    seen.memory = spec.memory;
    seen.limits = limits_[i];
    const bool linked = channels_[i].linked();
    seen.actual = whole_pages(linked ? guests_[i].actual() : known_[i]);
    seen.target = targets_[i];
    seen.on_host.resident = whole(mine.resident() + kVmmOwn);
    seen.on_host.swapped = whole(mine.host_swapped());
    seen.on_host.swap_in = whole(guests_[i].counters().host_swap_in);
    seen.on_host.pressure_some = as_balloond ? stalled_[i] : guests_[i].host_stalled();
    seen.on_host.refaults = static_cast<std::uint64_t>(guests_[i].counters().host_swap_in / kPageBytes);
    seen.on_host.pinned = spec.pinned;
    seen.controllable = controllable(i);
    seen.stats = channels_[i].seen(now_, seen.actual, scenario_->tunables.stale_after);
    seen.pin.reset();
  }
  snapshot.guests.resize(count);
  snapshot.groups = scenario_->groups;
  snapshot.reservations.clear();
  seen_reservations_.clear();
  for (std::size_t i = 0; i < reservations_.size(); ++i) {
    const ReservationOutcome& outcome = reservations_[i];
    if (outcome.asked_at > now_ || outcome.started || outcome.state == GrantState::denied) continue;
    const GuestSpec& spec = scenario_->guests[outcome.guest];
    snapshot.reservations.push_back({spec.name, spec.reservation->min, spec.reservation->max,
                                     spec.reservation->priority,
                                     spec.reservation->at + spec.reservation->deadline});
    seen_reservations_.push_back(i);
  }
}

bool World::urgent(const Snapshot& seen, bool grows_wait, UrgencyRule& rule) const {
  std::size_t known = 0;
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    if (!guests_[i].running()) continue;
    if (known == seen_.size() || seen_[known] != i) return true;
    const GuestSnapshot& before = seen.guests[known++];
    if (before.controllable != controllable(i)) return true;
    if (!channels_[i].linked()) continue;
    if (grows_wait && whole_pages(guests_[i].actual()) != before.actual) return true;
    const std::optional<GuestStats>& stats = channels_[i].newest();
    if (!stats || !stats->available || (before.stats && stats->sampled_at == before.stats->sampled_at))
      continue;
    UseSample sample{stats->actual, *stats->available};
    if (const auto& last = channels_[i].before(); last && last->available)
      sample.used_before = UseSample{last->actual, *last->available}.used();
    if (rule(sample, scenario_->tunables)) return true;
  }
  return known != seen_.size();
}

bool World::command(std::size_t guest, Bytes target) {
  const std::size_t i = seen_[guest];
  target = std::min(target, scenario_->guests[i].memory);
  if (targets_[i] == target) return false;
  targets_[i] = target;
  if (hang_[i] != 0) {
    held_back_[i] = 1;
  } else {
    guests_[i].command(target, now_ + scenario_->guests[i].command_latency);
  }
  return true;
}

/// Whether the host could really give what was granted, beside what it granted before and whose guest has not
/// had the time to use yet.
bool World::really_free(const ReservationOutcome& outcome) const {
  double promised = static_cast<double>(outcome.granted);
  for (const ReservationOutcome& other : reservations_) {
    if (&other == &outcome || other.state != GrantState::granted) continue;
    const GuestPlant& guest = guests_[other.guest];
    if (other.started && (!guest.running() || guest.driver_up(now_))) continue;
    const double used = other.started ? guest.memory().resident() : 0;
    promised += std::max(0.0, static_cast<double>(other.granted) - used);
  }
  return promised <= host_.available() + kPageBytes;
}

void World::apply(const Plan& plan) {
  if (plan.ksm && scenario_->host.ksm.present) host_.set_ksm(*plan.ksm);
  for (std::size_t i = 0; i < plan.reservations.size() && i < seen_reservations_.size(); ++i) {
    ReservationOutcome& outcome = reservations_[seen_reservations_[i]];
    const ReservationPlan& planned = plan.reservations[i];
    if (outcome.state != GrantState::pending || planned.state == GrantState::pending) continue;
    outcome.state = planned.state;
    outcome.decided_at = now_;
    if (planned.state != GrantState::granted) continue;
    outcome.granted = planned.granted;
    outcome.false_accept = !really_free(outcome);
    outcome.starts_at = now_ + scenario_->guests[outcome.guest].reservation->start_after;
  }
}

}  // namespace balloon::policy::sim
