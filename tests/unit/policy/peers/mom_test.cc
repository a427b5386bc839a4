// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/mom.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

constexpr double kPage = 0.01;  // MiB; a page is 0.004

MomSettings every_sample() {
  MomSettings settings;
  settings.samples_per_decision = 1;
  return settings;
}

/// The target of one guest of 1000 MiB on a host of 8000 MiB, in MiB.
double target(std::uint64_t host_available, std::uint64_t free, const MomSettings& settings = every_sample(),
              std::uint64_t size = 1000, std::uint64_t memory = 2048) {
  Mom law(settings);
  return mib(law.decide(host(8000, host_available, {guest("a", memory, size, free, free)})).guests[0].target);
}

// 10 % of the host is free, which is half of the threshold: guests are to keep half of 20 % free.
TEST(MomTest, ShrinksByFivePercentWhileTheHostIsShort) { EXPECT_NEAR(target(800, 500), 950, kPage); }

TEST(MomTest, StopsAtWhatTheGuestUsesAndItsScaledFreeShare) {
  EXPECT_NEAR(target(800, 120), 880 + 100, kPage);
}

TEST(MomTest, NeverGrowsABusyGuestWhileTheHostIsShort) { EXPECT_NEAR(target(800, 0), 1000, kPage); }

// 4 % free: -0.05 + 0.04 of its size is what the guest is to have free.
TEST(MomTest, ForcesGuestsToSwapWhenTheHostIsCritical) { EXPECT_NEAR(target(320, 0), 1000 - 10, kPage); }

TEST(MomTest, StopsAtTheMinimum) { EXPECT_NEAR(target(800, 300, every_sample(), 520), 512, kPage); }

TEST(MomTest, LeavesChangesOfAQuarterPercentAlone) {
  EXPECT_NEAR(target(800, 101), 1000, kPage);  // the floor is 899 + 100
}

TEST(MomTest, GrowsByFivePercentWhileTheHostIsNotShort) { EXPECT_NEAR(target(2000, 500), 1050, kPage); }

TEST(MomTest, GrowsABusyGuestAtOnceToHaveTwentyPercentFree) { EXPECT_NEAR(target(2000, 0), 1200, kPage); }

TEST(MomTest, OfVdsmScalesThatByTheHostsFreeMemory) {
  EXPECT_NEAR(target(2000, 0, vdsm_settings()), 1250, kPage);  // 0.2 * 0.25 / 0.2
}

TEST(MomTest, GrowsNoFurtherThanTheMaximum) {
  EXPECT_NEAR(target(2000, 0, every_sample(), 1000, 1020), 1020, kPage);
}

TEST(MomTest, LiftsAGuestUnderItsMinimumEvenWhenTheHostIsShort) {
  EXPECT_NEAR(target(800, 300, every_sample(), 400), 512, kPage);
}

TEST(MomTest, AveragesTenSamplesAndSoLagsABurst) {
  Mom law(every_sample());
  for (int i = 0; i < 9; ++i) law.decide(host(8000, 800, {guest("a", 2048, 1000, 500, 500)}));
  const Snapshot busy = host(8000, 800, {guest("a", 2048, 1000, 0, 0)});
  // Used is 1000 - 450 on average: it goes on shrinking a guest that has nothing free.
  EXPECT_NEAR(mib(law.decide(busy).guests[0].target), 950, kPage);
  Plan plan;
  for (int i = 0; i < 9; ++i) plan = law.decide(busy);
  EXPECT_NEAR(mib(plan.guests[0].target), 1000, kPage);
  EXPECT_EQ(plan.guests[0].used, 1000 * kMiB);
}

TEST(MomTest, DecidesAtEverySecondSample) {
  Mom law;
  const Snapshot snapshot = host(8000, 800, {guest("a", 2048, 1000, 500, 500)});
  EXPECT_NEAR(mib(law.decide(snapshot).guests[0].target), 1000, kPage);
  EXPECT_NEAR(mib(law.decide(snapshot).guests[0].target), 950, kPage);
}

TEST(MomTest, DoesNotSeeAGuestWithoutStatistics) {
  for (const auto free : {std::optional<Bytes>{}, std::optional<Bytes>{Bytes::max()}}) {
    GuestSnapshot blind = guest("a", 2048, 1000, 500, 500);
    blind.stats->free = free;
    Mom law(every_sample());
    const Plan plan = law.decide(host(8000, 800, {blind}));
    EXPECT_EQ(plan.guests[0].target, 1000 * kMiB);
    EXPECT_EQ(plan.guests[0].state, GuestState::stale);
  }
}

// ---- KSM ----

KsmPlan tuned(std::uint64_t free_mib, std::size_t guests, std::uint64_t pages,
              const KsmSettings& settings = {}) {
  Snapshot snapshot = host(8192, free_mib, std::vector(guests, guest("a", 2048, 1000, 500, 500)));
  snapshot.host.ksm = KsmSnapshot{};
  snapshot.host.ksm->pages_to_scan = pages;
  return tune_ksm(settings, snapshot, static_cast<double>(free_mib * kMiB));
}

TEST(KsmTunerTest, StopsWhenGuestsFitAndMemoryIsFree) { EXPECT_FALSE(tuned(4000, 2, 100).run); }

TEST(KsmTunerTest, RunsWhenGuestsDoNotFit) {
  const KsmPlan plan = tuned(4000, 6, 400);
  EXPECT_TRUE(plan.run);
  EXPECT_EQ(plan.pages_to_scan, 350);                    // not short: 50 less
  EXPECT_EQ(plan.sleep, std::chrono::milliseconds(20));  // 10 ms * 16 GiB / 8 GiB
}

TEST(KsmTunerTest, ScansMoreWhileMemoryIsShortWithinItsBounds) {
  EXPECT_EQ(tuned(1000, 6, 400).pages_to_scan, 700);
  EXPECT_EQ(tuned(1000, 6, 1000).pages_to_scan, 1250);
  EXPECT_EQ(tuned(4000, 6, 100).pages_to_scan, 64);
}

TEST(KsmTunerTest, OfKsmtunedHasALeastThreshold) {
  // 1700 MiB are more than 20 % of 8192, but less than 2048.
  EXPECT_EQ(tuned(1700, 6, 400).pages_to_scan, 350);
  EXPECT_EQ(tuned(1700, 6, 400, {.least_threshold = 2048 * kMiB}).pages_to_scan, 700);
}

}  // namespace
}  // namespace balloon::policy::peers
