// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/pi.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

constexpr double kPage = 0.01;

/// One guest of 2048 MiB, minimum 512, on a host of 10000 MiB of which 2000 are to be available.
Snapshot box(std::uint64_t host_available, std::uint64_t size = 2048, std::uint64_t guest_available = 1000) {
  return host(10000, host_available, {guest("a", 2048, size, 0, guest_available)});
}

double target(PiLoops& law, const Snapshot& snapshot) { return mib(law.decide(snapshot).guests[0].target); }

TEST(PiTest, TakesInProportionToTheErrorAndItsIntegral) {
  PiLoops law;
  // Error 0.1, over 5 s 0.5: (0.5 * 0.1 + 0.05 * 0.5) * 2048.
  EXPECT_NEAR(target(law, box(1000)), 2048 - 153.6, kPage);
}

TEST(PiTest, SkipsSmallChangesUntilTheIntegralHasGrown) {
  PiLoops law;
  EXPECT_NEAR(target(law, box(1480)), 2048, kPage);  // (0.026 + 0.013) * 2048 = 79.9
  EXPECT_NEAR(target(law, box(1480)), 2048, kPage);  // 106.5
  EXPECT_NEAR(target(law, box(1480)), 2048 - 133.12, kPage);
}

TEST(PiTest, DoesNotGoBelowWhatTheGuestUses) {
  PiLoops law;
  // MemTotal is 2048 as before, so the balloon of 248 counts as used: 2048 - 100 - 248 are.
  EXPECT_NEAR(target(law, box(1100, 1800, 100)), 1700, kPage);
}

TEST(PiTest, KnowsDriversUnderWhichMemTotalShrinks) {
  PiLoops law;
  law.decide(box(2000));
  Snapshot shrunk = box(1100, 1800, 100);
  shrunk.guests[0].stats->total = 1800 * kMiB;
  EXPECT_NEAR(target(law, shrunk), 1700, kPage);
}

TEST(PiTest, GoesBelowWhatTheGuestUsesOverTheHardThreshold) {
  PiLoops law;
  // Error 0.15, integral 0.75: 230.4.
  EXPECT_NEAR(target(law, box(500, 1800, 100)), 1800 - 230.4, kPage);
}

TEST(PiTest, LowersTheCeilingWithTheHostsPressure) {
  PiLoops law;
  Snapshot stalled = box(5000);
  stalled.host.pressure_some = 0.30;  // half way from 10 to 50 %
  EXPECT_NEAR(target(law, stalled), 2048 - (2048 - 512) / 2, kPage);
}

TEST(PiTest, CutOffAtABoundReactsToTheFirstShortage) {
  PiLoops law;
  law.decide(box(9000));  // wants more than all: the integral is set to what just gives all
  // Integral 1, error 0.05: (0.025 + 0.05) * 2048, where a fresh loop takes 76.8.
  EXPECT_NEAR(target(law, box(1500)), 2048 - 153.6, kPage);
}

TEST(PiTest, TakesAThirdAsMinimumWhereThereIsNone) {
  PiLoops law;
  Snapshot starved = box(0, 700, 0);
  starved.guests[0].limits.min = Bytes{0};
  EXPECT_NEAR(target(law, starved), 0.33 * 2048, 0.1);
}

TEST(PiTest, WaitsForTheFirstStatistics) {
  PiLoops law;
  Snapshot blind = box(500);
  blind.guests[0].stats.reset();
  const Plan plan = law.decide(blind);
  EXPECT_EQ(plan.guests[0].target, 2048 * kMiB);
  EXPECT_EQ(plan.guests[0].state, GuestState::stale);
}

TEST(PiTest, GoesByResidentMemoryWhenStatisticsEnd) {
  PiLoops law;
  law.decide(box(2000));
  Snapshot blind = box(1100, 1800);
  blind.guests[0].stats.reset();
  blind.guests[0].on_host.resident = 1750 * kMiB;
  EXPECT_NEAR(target(law, blind), 1750, kPage);
}

TEST(PiTest, LoopsDoNotKnowOfEachOther) {
  PiLoops law;
  const Plan plan =
      law.decide(host(10000, 1000, {guest("a", 2048, 2048, 0, 1000), guest("b", 2048, 2048, 0, 1000)}));
  EXPECT_NEAR(mib(plan.guests[0].target), 2048 - 153.6, kPage);
  EXPECT_NEAR(mib(plan.guests[1].target), 2048 - 153.6, kPage) << "both take all of the error on themselves";
}

}  // namespace
}  // namespace balloon::policy::peers
