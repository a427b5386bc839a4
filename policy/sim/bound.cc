// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/bound.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "policy/sim/scores.h"
#include "policy/sim/world.h"

namespace balloon::policy::sim {
namespace {

/// Of what its swap device can write, what the host's kernel surely does while it is short of memory. In the
/// plant it is all: reads take nothing from it (HostPlant::reclaim).
constexpr double kSurelyWritten = 0.75;
/// Less of a guest's deficit than this counts for nothing (GuestPlant::deficit).
constexpr double kUncounted = kPageBytes;

double seconds(Time time) { return std::chrono::duration<double>(time).count(); }

/// A guest that counts. It is there from `from` on, and before `to`, under every law.
struct Party {
  const GuestSpec* spec = nullptr;
  GuestPlant plant;
  GuestSignals signals;
  Time from{};
  std::optional<Time> to;
  double most = 0;  ///< of its demand, in bytes, what counts
};

/// One that would be killed is spared what it wants while it boots again. So that no kill pays for that, no
/// more of a guest's demand counts than a kill costs over the mean of that time.
double worth_a_kill(const GuestSpec& spec) {
  constexpr double kMost = 0.9;  // of it; the rest pays for what its VMM itself holds
  const double boot = std::max(seconds(spec.boot), kStepSeconds);
  return kMost * kCostOfHostOom * kGiBd / (boot / 2);
}

/// Not those that a law may refuse, and not those whose memory the host gives without having it (VFIO).
std::vector<Party> parties_of(const Scenario& scenario, std::uint64_t seed) {
  std::vector<Party> parties;
  for (std::size_t i = 0; i < scenario.guests.size(); ++i) {
    const GuestSpec& spec = scenario.guests[i];
    if (spec.reservation || spec.pinned) continue;
    const Time up = spec.joins > Time{} ? spec.joins + spec.boot + kStep : Time{};
    parties.push_back({&spec, GuestPlant(spec, scenario.speeds),
                       GuestSignals(spec, guest_seed(seed, i), scenario.duration), up, spec.leaves,
                       worth_a_kill(spec)});
  }
  return parties;
}

/// What guests of `parties` have of the host when the scenario begins, whichever law there will be: more than
/// there is, perhaps.
double held_at_start(const Scenario& scenario, std::uint64_t seed) {
  const World world(scenario, seed);
  double held = 0;
  for (std::size_t i = 0; i < scenario.guests.size(); ++i) {
    const GuestSpec& spec = scenario.guests[i];
    if (!spec.reservation && !spec.pinned && world.guests()[i].running())
      held += world.guests()[i].memory().resident();
  }
  return held;
}

bool judged(const Scenario& scenario, Time step) {
  return scenario.judged.empty() || std::ranges::any_of(scenario.judged, [step](const Window& window) {
           return window.from <= step && step < window.to;
         });
}

}  // namespace

double cost_bound(const Scenario& scenario, std::uint64_t seed) {
  std::vector<Party> parties = parties_of(scenario, seed);
  HostSignals host(scenario.host, host_seed(seed), scenario.duration);
  const auto total = static_cast<double>(scenario.host.memory);
  const double written =
      kSurelyWritten * scenario.host.swap.bandwidth / scenario.host.swap.write_factor * kStepSeconds;
  double held = held_at_start(scenario, seed);
  double bound = 0;
  for (Time now{}; now < scenario.duration; now += kStep) {
    double capacity = total - host.own.at(now);
    double demand = 0;
    double holdable = 0;
    for (Party& party : parties) {
      if (now < party.from || (party.to && now + kStep >= *party.to)) continue;
      Wants wants = party.signals.at(now);
      if (scenario.host.ksm.present && party.spec->limits.ksm)
        capacity += std::clamp(wants.mergeable, 0.0, 1.0) * wants.anon;
      capacity -= kVmmOwn;
      wants.cold = 0;  // the host may have it in its swap for nothing
      const double mine = std::max(0.0, std::min(party.plant.demand(wants), party.most) - kUncounted);
      demand += mine;
      holdable += std::min(mine, static_cast<double>(party.spec->memory));
    }
    // New memory is given only as far as there is some. What guests hold beyond that goes to the swap device.
    held = std::max(capacity, held - written);
    if (judged(scenario, now))
      bound += std::max(0.0, demand - std::min(held, holdable)) / kGiBd * kStepSeconds;
  }
  return bound;
}

}  // namespace balloon::policy::sim
