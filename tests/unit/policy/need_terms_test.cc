// SPDX-License-Identifier: Apache-2.0
// What each term of a need comes to, one sample or two at a time.
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "policy/demand.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

/// One guest of 2 GiB; a sample every `period` seconds. Sizes in MiB.
class NeedTermsTest : public testing::Test {
 protected:
  NeedTermsTest() {
    guest_.memory = 2 * kGiB;
    guest_.limits = {256 * kMiB, 2 * kGiB, 100};
    guest_.stats = GuestStats{};
    guest_.stats->total = 2 * kGiB;
    guest_.stats->swap_in = guest_.stats->swap_out = Bytes{0};
    guest_.stats->major_faults = 0;
    guest_.stats->free = Bytes{0};
  }
  Demand::Estimate uses(std::uint64_t used, std::uint64_t size = 2048) {
    now_ += seconds(period_);
    guest_.actual = guest_.target = guest_.stats->actual = size * kMiB;
    guest_.stats->available = (size - used) * kMiB;
    guest_.stats->sampled_at = now_;
    return again();
  }
  /// One more decision on the same sample.
  Demand::Estimate again() {
    const Judgement judged = judge(guest_, now_, Bytes{0}, tunables_);
    return demand_.update(guest_, judged, Source::statistics, now_, factor_, false, tunables_);
  }
  void swap(std::uint64_t out, std::uint64_t in) {
    *guest_.stats->swap_out += out * kMiB;
    *guest_.stats->swap_in += in * kMiB;
  }
  static double level(const Demand::Estimate& estimate, Level level) { return mib(estimate.levels[level]); }

  GuestSnapshot guest_;
  Demand demand_;
  Tunables tunables_;
  double factor_ = 1;
  int period_ = 1;
  Time now_ = seconds(100);
};

TEST_F(NeedTermsTest, AMarginIsAPartOfUseOrTheLeastThereIs) {
  EXPECT_NEAR(mib(uses(400).terms.margin), 128, 0.01);
  EXPECT_NEAR(mib(uses(1600).terms.margin), 240, 0.01);
}

TEST_F(NeedTermsTest, AMarginIsTimesWhatTheHostsStateAndTheGuestsRuleMakeOfIt) {
  factor_ = 0.5;
  EXPECT_NEAR(mib(uses(400).terms.margin), 64, 0.01);
  guest_.limits.margin_factor = 2;
  EXPECT_NEAR(mib(uses(400).terms.margin), 128, 0.01);
  guest_.limits.margin_factor = 0;
  EXPECT_EQ(uses(400).terms.margin, Bytes{0});
}

TEST_F(NeedTermsTest, ARuleMakesNoMoreThanSixteenOfAMargin) {
  factor_ = 0.25;
  guest_.limits.margin_factor = 100;
  EXPECT_NEAR(mib(uses(400).terms.margin), 0.25 * 16 * 128, 0.01);
}

TEST_F(NeedTermsTest, AGuestIsGrownBelowHalfOfItsMargin) {
  EXPECT_NEAR(mib(uses(1600).grow_below), 1600 / 0.93 + 16, 0.01)
      << "or below its working set, if that is more";
  guest_.limits.margin_factor = 4;
  EXPECT_NEAR(mib(uses(800, 2048).grow_below), 800 + 0.5 * 4 * 128, 0.01);
}

TEST_F(NeedTermsTest, AWorkingSetHasRoomNotToCountAsPressed) {
  EXPECT_NEAR(level(uses(400), Level::working_set), 400 / 0.93 + 16, 0.01);
}

TEST_F(NeedTermsTest, AWorkingSetHasNoMoreRoomThanItsHalf) {
  tunables_.pressure_ratio = 0.9;
  tunables_.critical_ratio = 0;
  EXPECT_NEAR(level(uses(400), Level::working_set), 400 / 0.5 + 16, 0.01);
}

TEST_F(NeedTermsTest, GrowthGoesOnForThreeSecondsAndHalfOfThatIsNeededNow) {
  uses(400);
  const auto grown = uses(500);
  EXPECT_NEAR(mib(grown.terms.growth), 300, 0.01);
  EXPECT_NEAR(mib(grown.need), 500 + 300 + 128, 0.01);
  EXPECT_NEAR(level(grown, Level::need), 500 + 150 + 128, 0.01);
}

TEST_F(NeedTermsTest, GrowthIsARate) {
  period_ = 2;
  uses(400);
  EXPECT_NEAR(mib(uses(500).terms.growth), 150, 0.01);
}

TEST_F(NeedTermsTest, WhatDoesNotGrowHasNoGrowth) {
  uses(500);
  EXPECT_EQ(uses(400).terms.growth, Bytes{0});
  EXPECT_EQ(uses(400).terms.growth, Bytes{0});
}

TEST_F(NeedTermsTest, WhatComesBackFromSwapIsNoGrowth) {
  swap(300, 0);
  uses(400);
  swap(0, 50);
  EXPECT_EQ(uses(450).terms.growth, Bytes{0});
  swap(0, 50);
  EXPECT_NEAR(mib(uses(520).terms.growth), 3 * 20, 0.01) << "the rest is";
}

TEST_F(NeedTermsTest, WhatGoesToSwapIsGrowthAndIsNeeded) {
  uses(400);
  swap(100, 0);
  const auto swapped = uses(400);
  EXPECT_NEAR(mib(swapped.terms.growth), 300, 0.01);
  EXPECT_NEAR(mib(swapped.terms.swapped), 100, 0.01);
  EXPECT_NEAR(level(swapped, Level::need), 400 + 100 + 150 + 128, 0.01);
  swap(0, 60);
  EXPECT_NEAR(mib(uses(400).terms.swapped), 40, 1);
}

TEST_F(NeedTermsTest, ASlowRiseClaimsWhatItNeedsLater) {
  uses(1000);
  const auto grown = uses(1050);
  EXPECT_NEAR(level(grown, Level::claim), level(grown, Level::need) + 75, 0.01) << "less than a tenth of use";
}

TEST_F(NeedTermsTest, AFastRiseClaimsTwiceWhatIsUsed) {
  uses(400);
  const auto grown = uses(450);
  EXPECT_NEAR(level(grown, Level::claim), level(grown, Level::need) + 450, 0.01);
}

TEST_F(NeedTermsTest, AFastRiseOfSixteenMiBAndLessIsSmallChange) {
  uses(64);
  guest_.limits.min = Bytes{0};
  const auto grown = uses(80);
  EXPECT_NEAR(level(grown, Level::claim), level(grown, Level::need) + 24, 0.01);
}

TEST_F(NeedTermsTest, AGuestSurgesThatUsesHalfOfItsMarginMoreThanOfLate) {
  uses(400);
  EXPECT_TRUE(uses(470).surging);
  for (int second = 0; second < 60; ++second) uses(470);
  EXPECT_FALSE(uses(470).surging) << "it has been so for a while";
  EXPECT_FALSE(uses(535).surging);
}

TEST_F(NeedTermsTest, CacheThatIsReadAgainIsInUseAndMore) {
  uses(724, 1024);
  *guest_.stats->major_faults += 1000;  // 128 KiB each
  const auto read = uses(724, 1024);
  EXPECT_NEAR(mib(read.terms.cache), 300 + 125 - 128, 0.01) << "the margin serves as cache, too";
  EXPECT_EQ(read.hot_cache, read.terms.cache);
  EXPECT_NEAR(level(read, Level::need), 724 + 300 + 125, 0.01);
  EXPECT_NEAR(mib(read.grow_below), 724 + 64 + 297, 0.01);
}

TEST_F(NeedTermsTest, CacheThatIsReadAgainIsAtLeastAStepMoreThanThereIs) {
  uses(724, 1024);
  *guest_.stats->major_faults += 24;
  EXPECT_NEAR(mib(uses(724, 1024).terms.cache), 300 + 16 - 128, 0.01);
}

TEST_F(NeedTermsTest, CacheInUseIsForgottenByHalfInTenMinutes) {
  uses(724, 1024);
  demand_.learn_cache(static_cast<double>(500 * kMiB));
  EXPECT_NEAR(mib(uses(724, 1024).terms.cache), 500 - 128, 1);
  demand_.learn_cache(static_cast<double>(400 * kMiB));
  EXPECT_NEAR(mib(uses(724, 1024).terms.cache), 500 - 128, 2) << "less is no news";
  for (int second = 0; second < 600; ++second) uses(724, 1024);
  EXPECT_NEAR(mib(uses(724, 1024).terms.cache), 250 - 128, 2);
}

TEST_F(NeedTermsTest, OneThatIsBackAtItsPeakHasTheHalfOfItsMarginBesideItsCache) {
  demand_.learn_cache(static_cast<double>(400 * kMiB));
  for (int second = 0; second < 5; ++second) uses(1000);
  for (int second = 0; second < 60; ++second) uses(400);
  uses(900);
  const auto back = uses(1000);
  EXPECT_NEAR(mib(back.terms.margin), 75, 25);
  EXPECT_NEAR(level(back, Level::need), mib(back.grow_below), 0.01);
}

TEST_F(NeedTermsTest, ACriticalGuestIsLetOutToAMultipleOfWhatItHas) {
  tunables_.critical_growth = 2;
  EXPECT_NEAR(level(uses(800, 800), Level::need), 1600, 0.01);
}

TEST_F(NeedTermsTest, ACriticalGuestIsTakenToHaveAQuarterOfItsMaximum) {
  tunables_.critical_growth = 2;
  EXPECT_NEAR(level(uses(300, 300), Level::need), 2 * 512, 0.01);
}

TEST_F(NeedTermsTest, ACriticalGuestsRescueIsPartOfItsWorkingSet) {
  const auto critical = uses(800, 800);
  EXPECT_EQ(critical.levels[Level::working_set], critical.levels[Level::need]);
  EXPECT_NEAR(mib(critical.terms.rescue), 2048 - (800 + 128), 0.01);
}

TEST_F(NeedTermsTest, OneWhoseKernelKilledIsLetOutToItsMaximum) {
  guest_.stats->oom_kills = 0;
  tunables_.critical_growth = 1;
  uses(700, 800);
  *guest_.stats->oom_kills = 1;
  EXPECT_NEAR(level(uses(700, 800), Level::need), 2048, 0.01);
}

TEST_F(NeedTermsTest, ANeedIsWithinTheLimits) {
  guest_.limits = {600 * kMiB, 1000 * kMiB, 100};
  EXPECT_NEAR(level(uses(100), Level::need), 600, 0.01);
  EXPECT_NEAR(mib(uses(1500).need), 1000, 0.01);
  guest_.limits = {3000 * kMiB, 1000 * kMiB, 100};
  EXPECT_NEAR(level(uses(100), Level::minimum), 1000, 0.01) << "a minimum is no more than the maximum";
}

TEST_F(NeedTermsTest, ASecondDecisionOnASampleChangesNothing) {
  uses(400);
  const auto once = uses(500);
  const auto twice = again();
  EXPECT_EQ(twice.levels, once.levels);
  EXPECT_EQ(twice.terms, once.terms);
}

TEST_F(NeedTermsTest, AGuestThatReadsFilesWithoutRoomForThemWantsThatMuchMore) {
  guest_.stats->disk_read = Bytes{0};
  uses(724, 1024);
  *guest_.stats->disk_read += 50 * kMiB;
  EXPECT_NEAR(level(uses(724, 1024), Level::wanted), 1024 + 50, 0.01);
  *guest_.stats->disk_read += 5 * kGiB;
  EXPECT_NEAR(level(uses(724, 1024), Level::wanted), 2048, 0.01) << "at most its maximum";
}

TEST_F(NeedTermsTest, OneWithLittleCacheAndNothingAvailableIsBelieved) {
  guest_.stats->disk_caches = 400 * kMiB;  // under a quarter of 2 GiB: it may be a tmpfs
  for (int second = 0; second < 60; ++second) {
    const auto estimate = uses(2048);
    ASSERT_FALSE(estimate.doubted);
    ASSERT_EQ(estimate.pressure, Pressure::critical);
  }
}

TEST_F(NeedTermsTest, OneInDoubtStaysSoHoweverLittleCacheIsLeftToIt) {
  guest_.stats->disk_caches = 600 * kMiB;
  for (int second = 0; second < 40; ++second) uses(2048);
  EXPECT_TRUE(uses(2048).doubted);
  guest_.stats->disk_caches = 100 * kMiB;
  const auto later = uses(2048);
  EXPECT_TRUE(later.doubted);
  EXPECT_NEAR(mib(later.used), 2048 - 50, 0.01) << "half of its cache is taken to be available";
}

TEST_F(NeedTermsTest, OneOfWhichTheHostSeesAllIsNotDoubtedWithoutCounters) {
  guest_.stats->disk_caches = 1400 * kMiB;
  guest_.stats->major_faults.reset();
  for (int second = 0; second < 60; ++second) uses(2048);
  EXPECT_FALSE(uses(2048).doubted) << "what would show a want is not there";
}

}  // namespace
}  // namespace balloon::policy
