// SPDX-License-Identifier: Apache-2.0
// Invariant 8: a guest with fresh statistics, a moving balloon and room below its maximum is not critical for
// longer than two samples and the time that its balloon takes, while the host has memory for it; whatever any
// other guest does, claims or fails to do.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "policy/holdings.h"
#include "random_host.h"

namespace balloon::policy {
namespace {

constexpr int kTicks = 15;
constexpr int kSamples = 2;
constexpr const char* kPatient = "z-patient";

FakeGuest* patient_of(FakeHost& host) {
  const auto found =
      std::ranges::find(host.guests, kPatient, [](const FakeGuest& guest) { return guest.seen.name; });
  return found == host.guests.end() ? nullptr : &*found;
}

/// What the host has for guests beyond what they have, were promised and were granted just now. What is being
/// freed for a reservation is promised to it: it takes even programs' memory, of guests of less weight.
double free_after(const Snapshot& seen, const Plan& plan, const std::vector<Move>& moves) {
  std::vector<Bytes> targets;
  for (const GuestSnapshot& guest : seen.guests) targets.push_back(guest.target);
  for (const Move& move : moves) targets[move.guest] = move.target;
  double free = static_cast<double>(plan.budget);
  for (std::size_t i = 0; i < targets.size(); ++i)
    free -= static_cast<double>(counted(plan.guests[i], seen.guests[i], targets[i]));
  for (std::size_t i = 0; i < plan.reservations.size(); ++i) {
    const bool pending = plan.reservations[i].state == GrantState::pending;
    const Reservation& wish = seen.reservations[i];
    free -= static_cast<double>(pending ? std::max(wish.min, wish.max) : plan.reservations[i].granted);
  }
  return free;
}

/// What may stay free beside a critical guest: others are not grown for less than their deadbands.
double small_change(const Snapshot& seen, const Tunables& tunables) {
  double all = static_cast<double>(tunables.deadband_min);
  for (const GuestSnapshot& guest : seen.guests)
    all += std::max(static_cast<double>(tunables.deadband_min),
                    tunables.deadband_ratio * static_cast<double>(std::min(held(guest), guest.memory)));
  return all;
}

TEST(Rescue, NobodyStaysCriticalBesideFreeMemoryWhateverOthersDo) {
  const Tunables tunables;
  std::uint64_t critical_ticks = 0;
  std::uint64_t beside_free = 0;
  for (std::uint64_t seed = 0; seed < kHostileHosts; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(Bytes{0}, 8);
    Engine engine(tunables);
    const Bytes memory = random.between(512, 32768) * kMiB;
    host.add(memory, memory / 8, {random.between(16, 512) * kMiB, memory, 100}).speed =
        random.between(64 * kMiB, 4 * kGiB);
    host.guests.back().seen.name = kPatient;
    host.guests.back().seen.actual = host.guests.back().seen.target = memory / 4;
    double late = 0;    // decisions of this wait
    double from = 0;    // its size when that began
    double lacked = 0;  // the most of that in it: what it uses may rise meanwhile
    for (int tick = 0; tick < kTicks; ++tick) {
      if (FakeGuest* before = patient_of(host)) before->seen.pin.reset();
      random.live(host);
      FakeGuest* const patient = patient_of(host);
      if (patient == nullptr) break;
      patient->answers = patient->seen.controllable = true;
      patient->seen.on_host.pinned = false;
      patient->seen.pin.reset();
      Snapshot seen = host.snapshot();
      for (GuestSnapshot& guest : seen.guests) {
        if (guest.name != kPatient && random.one_in(3)) random.lie(guest);
      }
      Plan plan = engine.decide(seen);
      const auto moves = admit(plan, seen.guests);
      const auto used = static_cast<double>(patient->used);  // critical below the line
      const double line = std::min(used / (1 - tunables.critical_ratio),
                                   used + static_cast<double>(tunables.constants.critical_max));
      const double lacking = line - static_cast<double>(patient->seen.actual);
      const bool critical = lacking > 0;
      const bool has_free = free_after(seen, plan, moves) > small_change(seen, tunables);
      // A smaller change than that is not worth a move.
      const bool has_room = patient->seen.actual + tunables.deadband_min < patient->seen.limits.max;
      const bool waits = critical && has_free && has_room;
      critical_ticks += critical;
      beside_free += waits;
      if (late == 0) from = static_cast<double>(patient->seen.actual);
      late = waits ? late + 1 : 0;
      lacked = waits ? std::max(lacked, line - from) : 0;
      ASSERT_LE(late, kSamples + std::ceil(lacked / static_cast<double>(patient->speed)))
          << "seed " << seed << " tick " << tick << ": it has " << patient->seen.actual / kMiB
          << " MiB, lacks " << lacking / static_cast<double>(kMiB) << ", free "
          << free_after(seen, plan, moves) / static_cast<double>(kMiB);
      for (const Move& move : moves) host.guests[move.guest].seen.target = move.target;
      host.settle(std::chrono::seconds(1));
    }
  }
  EXPECT_GT(critical_ticks, kHostileHosts / 10) << "there is somebody to rescue";
  EXPECT_GT(beside_free, 0U);
}

}  // namespace
}  // namespace balloon::policy
