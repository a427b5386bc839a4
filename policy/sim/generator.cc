// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/bytes.h"
#include "policy/sim/physics.h"
#include "policy/sim/random.h"

namespace balloon::policy::sim {
namespace {

// What is drawn from. Sizes and overcommitment are those that a host for guests is likely to have.
constexpr double kGuestsLeast = 2;
constexpr double kGuestsMost = 40;
constexpr double kMemoryLeast = 0.5 * kGiBd;
constexpr double kMemoryMost = 64 * kGiBd;
constexpr double kOvercommitLeast = 1.1;
constexpr double kOvercommitMost = 3.0;
/// Mean demand of all guests, as a part of what the host has for them: beyond 1 it does not fit.
constexpr double kLoadLeast = 0.45;
constexpr double kLoadMost = 1.05;
constexpr double kMinPart = 0.2;  // of a guest's memory: its guaranteed minimum, at most
constexpr Time kWarmUp = std::chrono::minutes(2);

/// What the two generators draw with other odds. Parts are of guests.
struct Odds {
  double size_least = 0.4;  ///< of a guest, over what is typical of its host
  double size_most = 3;
  double absent_driver = 0.02;
  double stuck_driver = 0.03;
  double slow_driver = 0.02;
  double pinned = 0.01;
  double no_stats = 0.02;
  double lies = 0.02;
  double old_kernel = 0.4;
  double no_swap = 0.3;
  double deflate_on_oom = 0.5;
  double free_page_reporting = 0.7;
  double joins = 0.1;
};
constexpr Odds kFirst;
/// Cloud images have no swap; free page reporting and deflate-on-OOM are options that most hosts leave off
/// (QEMU's default).
constexpr Odds kSecond{.size_least = 0.2,
                       .size_most = 5,
                       .absent_driver = 0.03,
                       .stuck_driver = 0.04,
                       .slow_driver = 0.02,
                       .pinned = 0.02,
                       .no_stats = 0.04,
                       .lies = 0.02,
                       .old_kernel = 0.4,
                       .no_swap = 0.4,
                       .deflate_on_oom = 0.4,
                       .free_page_reporting = 0.5,
                       .joins = 0.15};

Bytes to_mib(double bytes) { return static_cast<std::uint64_t>(bytes / kMiBd) * kMiB; }
Time to_time(double seconds) { return Time(static_cast<std::int64_t>(seconds * 1e3) * 1'000'000); }

double total_seconds(Time time) { return std::chrono::duration<double>(time).count(); }

/// What programs want over time, around a mean.
SignalSpec demand_over_time(Random& random, double mean, double most, Time duration) {
  Term term;
  switch (random.below(6)) {
    case 0:
      return constant(mean);
    case 1:
      term.kind = Term::Kind::square;
      term.duty = random.uniform(0.15, 0.5);
      term.value = mean * random.uniform(0.3, 0.7);
      term.high = std::min(most, term.value + (mean - term.value) / term.duty);
      term.period = to_time(random.log_uniform(20, 300));
      term.phase = to_time(random.uniform(0, total_seconds(term.period)));
      term.rise = to_time(random.log_uniform(1, 10));
      return {term};
    case 2:
      term.kind = Term::Kind::build;
      term.value = mean;
      term.high = std::min(most, 2.5 * mean);
      return {term};
    case 3:
      term.kind = Term::Kind::sine;
      term.value = mean;
      term.high = std::min(mean, most - mean) * random.uniform(0.2, 0.7);
      term.period = to_time(random.log_uniform(60, 600));
      term.phase = to_time(random.uniform(0, total_seconds(term.period)));
      return {term};
    case 4: {
      term.kind = Term::Kind::points;
      double at = 0;
      double value = mean * random.uniform(0.4, 1.0);
      while (at < total_seconds(duration)) {
        term.points.push_back({to_time(at), value});
        at += random.uniform(30, 150);
        term.points.push_back({to_time(at), value});
        at += random.log_uniform(1, 30);
        value = std::min(most, mean * random.log_uniform(0.4, 2.2));
      }
      return {term};
    }
    default:
      term.kind = Term::Kind::leak;
      term.value = mean * random.uniform(0.5, 0.9);
      term.rate = 2 * (mean - term.value) / total_seconds(duration);
      term.high = most;
      return {term};
  }
}

void misbehave(Random& random, const Odds& odds, GuestSpec& guest) {
  const double drawn = random.uniform();
  double bound = 0;
  // At most one of them is true, each with its probability.
  const auto happens = [&](double probability) {
    const bool before = drawn < bound;
    bound += probability;
    return !before && drawn < bound;
  };
  if (happens(odds.absent_driver)) guest.driver = Driver::absent;
  if (happens(odds.stuck_driver)) {
    guest.driver = Driver::stuck;
    guest.stuck_at = to_mib(static_cast<double>(guest.memory) * random.uniform(0.5, 0.9));
  }
  if (happens(odds.slow_driver)) guest.driver = Driver::slow;
  if (happens(odds.pinned)) guest.pinned = true;
  if (happens(odds.no_stats)) guest.stats.present = false;
  if (happens(odds.lies)) {
    constexpr std::array kLieKinds = {Lie::available_zero, Lie::available_unknown, Lie::available_above_total,
                                      Lie::counters_back, Lie::frozen};
    guest.stats.lie = kLieKinds[random.below(kLieKinds.size())];
  }
}

GuestSpec draw_guest(Random& random, const Odds& odds, std::string name, double memory, double mean_demand,
                     Time duration) {
  GuestSpec guest;
  guest.name = std::move(name);
  guest.memory = to_mib(memory);
  const double kernel = std::max(64 * kMiBd, 0.06 * memory);
  guest.limits.max = guest.memory;
  guest.limits.min = to_mib(std::max(std::min(memory, 256 * kMiBd), memory * random.uniform(0.05, kMinPart)));
  constexpr std::array<std::uint32_t, 4> kWeights = {50, 100, 100, 300};
  guest.limits.weight = kWeights[random.below(kWeights.size())];
  const double working = std::clamp(mean_demand - kernel, 32 * kMiBd, 0.8 * memory - kernel);
  const double hot = random.chance(0.3) ? 0 : working * random.uniform(0.1, 0.5);
  guest.hot = constant(hot);
  guest.anon = demand_over_time(random, working - hot, 0.92 * memory - kernel - hot, duration);
  guest.cold = constant(random.chance(0.2) ? 0 : memory * random.uniform(0.1, 0.6));
  guest.anon_idle = random.chance(0.5) ? 0 : random.uniform(0, 0.3);
  guest.swap.size = random.chance(odds.no_swap) ? Bytes{0} : to_mib(memory * random.uniform(0.25, 0.75));
  guest.deflate_on_oom = random.chance(odds.deflate_on_oom);
  guest.free_page_reporting = random.chance(odds.free_page_reporting);
  guest.stats.pressure = !random.chance(odds.old_kernel);
  constexpr std::array kPeriods = {std::chrono::seconds(1), std::chrono::seconds(1), std::chrono::seconds(2),
                                   std::chrono::seconds(5)};
  guest.stats.period = kPeriods[random.below(kPeriods.size())];
  guest.stats.jitter = to_time(random.uniform(0, 0.3));
  guest.stats.loss = random.chance(0.2) ? random.uniform(0, 0.1) : 0;
  guest.command_latency = to_time(random.uniform(0.005, 0.05));
  misbehave(random, odds, guest);
  if (random.chance(odds.joins)) guest.joins = to_time(random.uniform(60, 0.7 * total_seconds(duration)));
  if (random.chance(0.05)) guest.leaves = to_time(random.uniform(0.7, 1.0) * total_seconds(duration));
  return guest;
}

/// As if the plant had none of its effects.
void switch_off(Scenario& scenario) {
  scenario.host.effects = HostEffects::off();
  for (GuestSpec& guest : scenario.guests) {
    guest.effects = GuestEffects::off();
    guest.stats.disk_reads = false;
  }
}

}  // namespace

Scenario generate(std::uint64_t seed, const GeneratorOptions& options) {
  Random random(mix_seed(seed, 77));
  const Odds& odds = options.generator == 1 ? kFirst : kSecond;
  Scenario scenario;
  scenario.duration = std::max(options.duration, kWarmUp * 2);
  const auto count =
      options.guests > 0
          ? options.guests
          : static_cast<std::uint32_t>(std::lround(random.log_uniform(kGuestsLeast, kGuestsMost)));
  const double typical = random.log_uniform(1 * kGiBd, 8 * kGiBd);
  std::vector<double> memory;
  double all = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    memory.push_back(
        std::clamp(typical * random.log_uniform(odds.size_least, odds.size_most), kMemoryLeast, kMemoryMost));
    if (random.chance(0.02)) memory.back() = kMemoryMost;
    all += memory.back();
  }
  const double drawn = random.uniform(kOvercommitLeast, kOvercommitMost);
  const double overcommit = options.overcommit > 0 ? options.overcommit : drawn;
  const double host = std::max(all / overcommit, 2 * kGiBd);
  scenario.host.memory = to_mib(host);
  const double own = host * random.uniform(0.04, 0.09);
  scenario.host.own = constant(own);
  if (random.chance(0.2)) {  // a burst of the host's own
    Term burst;
    burst.kind = Term::Kind::points;
    const double at = random.uniform(150, 400);
    const double size = host * random.uniform(0.05, 0.15);
    burst.points = {{Time{}, 0},
                    {to_time(at), 0},
                    {to_time(at + 2), size},
                    {to_time(at + 60), size},
                    {to_time(at + 62), 0}};
    scenario.host.own.push_back(burst);
  }
  scenario.host.cache = constant(host * random.uniform(0, 0.1));
  using Devices = std::array<SwapDevice (*)(Bytes), 3>;
  constexpr Devices kPlain = {&SwapDevice::plain_nvme, &SwapDevice::plain_zram, &SwapDevice::plain_hdd};
  constexpr Devices kReal = {&SwapDevice::nvme, &SwapDevice::zram, &SwapDevice::hdd};
  const Devices& devices = options.generator == 1 ? kPlain : kReal;
  scenario.host.swap = devices[random.below(devices.size())](to_mib(host * random.uniform(0.5, 1.0)));
  // Demand is spread by size, so that the whole comes to the load that was drawn.
  const double load = random.uniform(kLoadLeast, kLoadMost);
  const double demand = load * (host - own);
  for (std::uint32_t i = 0; i < count; ++i) {
    const double mean = std::min(0.75 * memory[i], demand * memory[i] / all * random.uniform(0.6, 1.4));
    scenario.guests.push_back(
        draw_guest(random, odds, fmt::format("g{:04}", i), memory[i], mean, scenario.duration));
  }
  // What is guaranteed must be there: minimums come to 80 % of the host at most.
  double minimums = 0;
  for (const GuestSpec& guest : scenario.guests) minimums += static_cast<double>(guest.limits.min);
  const double room = 0.8 * (host - own);
  if (minimums > room) {
    for (GuestSpec& guest : scenario.guests)
      guest.limits.min = to_mib(static_cast<double>(guest.limits.min) * room / minimums);
  }
  if (random.chance(0.3)) {  // one guest asks before it starts
    GuestSpec& guest = scenario.guests[random.below(count)];
    guest.joins = Time{};
    guest.leaves.reset();
    ReservationSpec reservation;
    reservation.at = to_time(random.uniform(130, 300));
    reservation.max = guest.memory;
    reservation.min = guest.memory / 2;
    guest.reservation = reservation;
  }
  if (random.chance(0.1)) {
    const double at = random.uniform(150, 300);
    scenario.events.push_back({Event::Kind::daemon_down, to_time(at), to_time(at + 30), {}, Lie::none, {}});
  }
  scenario.judged = {{kWarmUp, scenario.duration}};
  scenario.name = fmt::format("seed-{}", seed);
  scenario.summary =
      fmt::format("{} guests of {} together on {} (overcommitted {:.2f}), mean demand {:.0f} % of it", count,
                  format_bytes(to_mib(all)), format_bytes(scenario.host.memory), all / host, load * 100);
  if (options.generator == 1) {
    switch_off(scenario);
  } else {
    add_effects(seed, scenario);
  }
  return scenario;
}

}  // namespace balloon::policy::sim
