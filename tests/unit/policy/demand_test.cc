// SPDX-License-Identifier: Apache-2.0
#include "policy/demand.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

GuestSnapshot guest(Bytes actual, Bytes available, Time at = seconds(100)) {
  GuestSnapshot guest;
  guest.memory = 2 * kGiB;
  guest.actual = guest.target = actual;
  guest.limits = {256 * kMiB, 2 * kGiB, 100};
  guest.stats = GuestStats{};
  guest.stats->sampled_at = at;
  guest.stats->actual = actual;
  guest.stats->total = 2 * kGiB;
  guest.stats->available = available;
  return guest;
}

/// The estimate of one more sample.
Demand::Estimate take(Demand& demand, const GuestSnapshot& sample, Time now, bool held = false) {
  const Judgement judged = judge(sample, now, Bytes{0}, {});
  EXPECT_TRUE(judged.usable());
  return demand.update(sample, judged, Source::statistics, now, 1.0, held, {});
}

Demand::Estimate first(const GuestSnapshot& sample) {
  Demand demand;
  return take(demand, sample, sample.stats->sampled_at);
}

TEST(Demand, CountsAsUsedWhatIsNotAvailableWhateverTheBalloonHolds) {
  EXPECT_EQ(first(guest(kGiB, 600 * kMiB)).used, 424 * kMiB);
}

TEST(Demand, AddsTheLargerMargin) {
  EXPECT_EQ(first(guest(kGiB, 624 * kMiB)).need, (400 + 128) * kMiB);
  EXPECT_NEAR(mib(first(guest(2 * kGiB, 1048 * kMiB)).need), 1150, 1);
}

TEST(Demand, RisesAtOnceAheadOfAGrowingGuest) {
  Demand demand;
  take(demand, guest(kGiB, 624 * kMiB, seconds(100)), seconds(100));
  const auto after = take(demand, guest(kGiB, 524 * kMiB, seconds(101)), seconds(101));
  EXPECT_EQ(after.need, (500 + 128 + 3 * 100) * kMiB);
}

TEST(Demand, FallsByHalfInItsHalfLife) {
  Demand demand;
  take(demand, guest(2 * kGiB, 548 * kMiB, seconds(100)), seconds(100));
  const auto high = take(demand, guest(2 * kGiB, 548 * kMiB, seconds(101)), seconds(101)).need;
  const auto later = take(demand, guest(2 * kGiB, 1648 * kMiB, seconds(111)), seconds(111)).need;
  EXPECT_NEAR(mib(later), mib((high + (400 + 128) * kMiB) / 2), 1);
}

TEST(Demand, ExpectsNoGrowthBeyondAKnownPeakThatUseHasJustReached) {
  Demand demand;
  const auto at = [&](int second, Bytes used) {
    return take(demand, guest(2 * kGiB, 2 * kGiB - used, seconds(second)), seconds(second));
  };
  at(100, 1000 * kMiB);
  at(101, 1000 * kMiB);
  for (int second = 102; second < 200; ++second) at(second, 900 * kMiB);  // not left: no peak yet
  at(200, 950 * kMiB);
  EXPECT_NEAR(mib(at(201, 1000 * kMiB).need), 1150, 1) << "use and margin";
  at(202, 300 * kMiB);
  EXPECT_GT(at(203, 1100 * kMiB).need, 1700 * kMiB) << "beyond the peak it may go anywhere";
}

TEST(Demand, GivesOneThatComesBackToItsPeakWhatIsEnoughThere) {
  Demand demand;
  const auto at = [&](int second, Bytes used) {
    return take(demand, guest(2 * kGiB, 2 * kGiB - used, seconds(second)), seconds(second));
  };
  at(100, 1000 * kMiB);
  const auto first_time = at(101, 1000 * kMiB);
  EXPECT_NEAR(mib(first_time.levels[Level::need]), 1150, 1) << "it may go on";
  for (int second = 102; second < 200; ++second) at(second, 300 * kMiB);
  EXPECT_EQ(at(200, 300 * kMiB).levels[Level::need], (300 + 128) * kMiB)
      << "far below its peak nothing is known";
  at(201, 700 * kMiB);
  const auto back = at(202, 1000 * kMiB);
  EXPECT_EQ(back.levels[Level::need], first_time.grow_below) << "not grown again at its peak, and no more";
  EXPECT_EQ(back.levels[Level::claim], back.levels[Level::need]);
  EXPECT_GE(back.levels[Level::need], back.levels[Level::working_set]);
  EXPECT_EQ(back.levels[Level::peak], first_time.levels[Level::need]) << "the rest comes out of what is free";
  at(203, 1100 * kMiB);
  EXPECT_NEAR(mib(at(204, 1100 * kMiB).levels[Level::need]), 1265, 1) << "beyond it all may come";
}

TEST(Demand, LetsACriticalGuestOutToThePeakItCameBackFrom) {
  Demand demand;
  const auto at = [&](int second, Bytes actual, Bytes available) {
    return take(demand, guest(actual, available, seconds(second)), seconds(second));
  };
  const Bytes enough = at(100, 2 * kGiB, 1048 * kMiB).grow_below;
  for (int second = 101; second < 200; ++second) at(second, kGiB, 724 * kMiB);
  const auto caught = at(200, 500 * kMiB, Bytes{0});
  EXPECT_EQ(caught.pressure, Pressure::critical);
  EXPECT_EQ(caught.levels[Level::need], enough);
  EXPECT_EQ(at(201, enough, Bytes{0}).levels[Level::need], 2 * kGiB) << "it lacks more than that";
}

TEST(Demand, CountsHalfOfTheCacheInUseAsWorkingSet) {
  Demand without;
  Demand with;
  with.learn_cache(static_cast<double>(400 * kMiB));
  const auto sample = guest(kGiB, 624 * kMiB);
  const Bytes least = take(without, sample, seconds(100)).levels[Level::working_set];
  const Bytes more = take(with, sample, seconds(100)).levels[Level::working_set];
  const Bytes beyond =
      400 * kMiB - (least - 400 * kMiB);  // some of it has room in what the working set adds to use
  EXPECT_NEAR(mib(more - least), 0.5 * mib(beyond), 1);
}

TEST(Demand, RemembersWhatWasNeededAtAPeakForAWhileButClaimsItOnlyWhenItGrows) {
  Demand demand;
  const auto at = [&](int second, Bytes used) {
    return take(demand, guest(2 * kGiB, 2 * kGiB - used, seconds(second)), seconds(second));
  };
  at(100, 1000 * kMiB);
  const Bytes peak = at(101, 1000 * kMiB).levels[Level::peak];
  for (int second = 102; second < 600; ++second) at(second, 300 * kMiB);
  const auto idle = at(600, 300 * kMiB);
  EXPECT_EQ(idle.levels[Level::peak], peak);
  EXPECT_LT(idle.levels[Level::claim], 450 * kMiB) << "nobody frees anything for a memory";
  const auto growing = at(601, 360 * kMiB);
  EXPECT_GT(growing.levels[Level::claim], 1000 * kMiB) << "it is on its way to where it was";
  EXPECT_LE(growing.levels[Level::claim], peak);
  for (int second = 602; second < 2400; ++second) at(second, 300 * kMiB);
  EXPECT_LT(at(2400, 300 * kMiB).levels[Level::peak], 450 * kMiB) << "it does not come back";
}

TEST(Demand, ExpectsOneThatGrewFromNothingKnownToDouble) {
  Demand demand;
  take(demand, guest(2 * kGiB, 1648 * kMiB, seconds(100)), seconds(100));
  const auto growing = take(demand, guest(2 * kGiB, 1448 * kMiB, seconds(101)), seconds(101));
  EXPECT_GE(growing.levels[Level::claim], 2 * 600 * kMiB);
  EXPECT_LT(growing.levels[Level::need], growing.levels[Level::claim]) << "others' needs come first";
  EXPECT_LT(growing.levels[Level::claim], 2 * kGiB);
  EXPECT_EQ(growing.levels[Level::peak], 2 * kGiB) << "it may go on: what is free is there for it";
}

TEST(Demand, TakesMoreThanTheGuestHasWhenItHasNothingLeft) {
  const auto estimate = first(guest(kGiB, 4 * kMiB));
  EXPECT_EQ(estimate.pressure, Pressure::critical);
  EXPECT_GE(estimate.need, kGiB + 512 * kMiB);
}

TEST(Demand, CountsSwapTrafficAsNeed) {
  Demand demand;
  auto before_sample = guest(kGiB, 300 * kMiB, seconds(100));
  before_sample.stats->swap_out = Bytes{0};
  before_sample.stats->swap_in = Bytes{0};
  const auto before = take(demand, before_sample, seconds(100)).need;
  auto second = guest(kGiB, 300 * kMiB, seconds(101));
  second.stats->swap_out = 200 * kMiB;
  second.stats->swap_in = 10 * kMiB;
  const auto after = take(demand, second, seconds(101));
  EXPECT_GT(after.need, before + 190 * kMiB);
  EXPECT_EQ(after.pressure, Pressure::pressed) << "it reads back from swap";
}

/// One that has swapped out 600 MiB, a sample a second.
class SwappedGuest : public testing::Test {
 protected:
  SwappedGuest() {
    at(100, Bytes{0}, Bytes{0});
    at(101, 600 * kMiB, Bytes{0});
  }

  /// What counts as swapped out, with so much swapped out altogether.
  Bytes at(int second, Bytes out, Bytes available) {
    GuestSnapshot sample = guest(kGiB, available, seconds(second));
    sample.stats->swap_in = Bytes{0};
    sample.stats->swap_out = out;
    return take(demand_, sample, seconds(second)).terms.swapped;
  }

 private:
  Demand demand_;
};

TEST_F(SwappedGuest, NeedsWhatDoesNotComeBackWhileThereIsNoRoomForIt) {
  for (int second = 102; second < 110; ++second) {
    EXPECT_GT(at(second, 600 * kMiB, 100 * kMiB), 500 * kMiB) << "less than its margin is available";
  }
}

TEST_F(SwappedGuest, DoesNotNeedWhatHadRoomForSecondsAndDidNotComeBack) {
  for (int second = 102; second < 105; ++second) EXPECT_GT(at(second, 600 * kMiB, 400 * kMiB), 500 * kMiB);
  EXPECT_EQ(at(105, 600 * kMiB, 400 * kMiB), Bytes{0});
  EXPECT_EQ(at(106, 600 * kMiB, Bytes{0}), Bytes{0}) << "nor later";
}

TEST_F(SwappedGuest, NeedsItWhileItSwapsOutBetweenSamplesThatShowRoom) {
  Bytes out = 600 * kMiB;
  for (int second = 102; second < 110; ++second) {
    if (second % 2 == 0) out += 50 * kMiB;
    EXPECT_GT(at(second, out, 400 * kMiB), 500 * kMiB);
  }
}

/// One of 1 GiB that has swap, and nothing left.
class FullGuest : public testing::Test {
 protected:
  FullGuest() {
    sample_.stats->swap_in = sample_.stats->swap_out = sample_.stats->disk_read = Bytes{0};
    at(100);
    *sample_.stats->swap_out = kMiB;
    at(101);
  }

  Demand::Estimate at(int second, bool held = false) {
    sample_.stats->sampled_at = seconds(second);
    return take(demand_, sample_, seconds(second), held);
  }
  /// In each of so many seconds.
  void rest(int from, int to) {
    for (int second = from; second < to; ++second) at(second);
  }

  GuestSnapshot sample_ = guest(kGiB, Bytes{0});
  Demand demand_;
};

TEST_F(FullGuest, IsCriticalUntilItHasShownNoWantForHalfAMinute) {
  rest(102, 130);
  EXPECT_EQ(at(130).pressure, Pressure::critical);
  EXPECT_EQ(at(131).pressure, Pressure::none);
}

TEST_F(FullGuest, TakesNothingFromOthersOnceItIsQuietAndIsProbed) {
  rest(102, 131);
  const auto quiet = at(131);
  const auto probed = static_cast<Bytes>(0.9 * static_cast<double>(kGiB));
  EXPECT_EQ(quiet.levels[Level::working_set], probed) << "a twentieth of its boot memory less";
  EXPECT_EQ(quiet.levels[Level::claim], probed);
  EXPECT_GT(quiet.grow_below, kGiB) << "what is free it is given at once";
  EXPECT_GT(quiet.levels[Level::peak], kGiB) << "its margin comes out of what is free";
  EXPECT_EQ(at(132, true).levels[Level::claim], kGiB)
      << "what it had to be given back is not tried again yet";
}

TEST_F(FullGuest, WantsAgainWhatItReadsFromItsSwapOrItsDisks) {
  rest(102, 132);
  *sample_.stats->disk_read += 100 * kMiB;
  EXPECT_EQ(at(132).pressure, Pressure::critical) << "room for files";
  rest(133, 240);
  EXPECT_EQ(at(240).pressure, Pressure::none);
  *sample_.stats->swap_in += 10 * kMiB;
  EXPECT_EQ(at(241).pressure, Pressure::critical);
}

TEST(Demand, AGuestThatWasNeverSeenSwappingMayHaveNoSwapToReadFrom) {
  Demand demand;
  for (int second = 100; second < 200; ++second)
    EXPECT_EQ(take(demand, guest(kGiB, Bytes{0}, seconds(second)), seconds(second)).pressure,
              Pressure::critical);
}

TEST(Demand, IsNotMovedByCountersThatRunBackwards) {
  Demand demand;
  auto before_sample = guest(kGiB, 624 * kMiB, seconds(100));
  before_sample.stats->swap_out = 5 * kGiB;
  take(demand, before_sample, seconds(100));
  auto second = guest(kGiB, 624 * kMiB, seconds(101));
  second.stats->swap_out = Bytes{0};
  EXPECT_EQ(take(demand, second, seconds(101)).need, (400 + 128) * kMiB);
}

TEST(Demand, DoubtsAGuestThatClaimsToHaveNothingLeftAndShowsNoSignOfWant) {
  Demand demand;
  Demand::Estimate estimate;
  auto sample = guest(2 * kGiB, Bytes{0});
  sample.stats->disk_caches = 1400 * kMiB;
  sample.stats->swap_in = Bytes{0};
  sample.stats->major_faults = 0;
  for (int second = 100; second < 140; ++second) {
    sample.stats->sampled_at = seconds(second);
    estimate = take(demand, sample, seconds(second));
    if (second < 125) {
      ASSERT_EQ(estimate.pressure, Pressure::critical) << "at first it is believed";
    }
  }
  EXPECT_TRUE(estimate.doubted);
  EXPECT_EQ(estimate.pressure, Pressure::none);
  EXPECT_EQ(estimate.used, 2 * kGiB - 700 * kMiB);

  sample.stats->sampled_at = seconds(140);
  *sample.stats->swap_in += 5 * kMiB;
  EXPECT_EQ(take(demand, sample, seconds(140)).pressure, Pressure::critical) << "it was true after all";
}

/// A guest without swap that had 600 MiB, no room, and then uses 250 MiB.
class KilledGuest : public testing::Test {
 protected:
  Demand::Estimate at(int second, Bytes size, Bytes available) {
    auto sample = guest(size, available, seconds(second));
    sample.stats->swap_in = Bytes{0};
    sample.stats->swap_out = swapped_out_;
    sample.stats->disk_caches = caches_;
    if (caches_) sample.stats->major_faults = 0;
    sample.on_host.resident = resident_;
    if (kills_) sample.stats->oom_kills = *kills_;
    return take(demand_, sample, seconds(second));
  }
  Bytes swapped_out_{};
  std::optional<Bytes> caches_;  ///< by which a guest that is quiet is doubted
  Bytes resident_{};
  std::optional<std::uint64_t> kills_;
  Demand demand_;
};

TEST_F(KilledGuest, NeedsTwiceTheSizeThatWasTooSmall) {
  at(100, 600 * kMiB, Bytes{0});
  const auto after = at(101, 600 * kMiB, 350 * kMiB);
  EXPECT_EQ(after.levels[Level::working_set], 1200 * kMiB);
  EXPECT_NEAR(mib(at(401, 600 * kMiB, 350 * kMiB).levels[Level::working_set]), 600, 2);
}

TEST_F(KilledGuest, IsKnownByItsCounterWithoutHavingBeenSeenCritical) {
  kills_ = 0;
  at(100, 600 * kMiB, 100 * kMiB);
  kills_ = 1;
  at(101, 600 * kMiB, 350 * kMiB);
  EXPECT_GT(at(120, 600 * kMiB, 350 * kMiB).levels[Level::working_set], 1100 * kMiB);
}

TEST_F(KilledGuest, IsOneWithoutSwap) {
  at(100, 600 * kMiB, Bytes{0});
  swapped_out_ = kMiB;
  EXPECT_LT(at(101, 600 * kMiB, 350 * kMiB).levels[Level::working_set], 400 * kMiB);
}

TEST_F(KilledGuest, IsNoneThatWasLetOutMeanwhile) {
  at(100, 600 * kMiB, Bytes{0});
  EXPECT_LT(at(101, 700 * kMiB, 450 * kMiB).levels[Level::working_set], 400 * kMiB);
}

TEST_F(KilledGuest, IsNoneThatIsDoubted) {
  caches_ = 500 * kMiB;
  Demand::Estimate estimate;
  for (int second = 100; second < 140; ++second) estimate = at(second, 600 * kMiB, Bytes{0});
  ASSERT_TRUE(estimate.doubted);
  EXPECT_LT(estimate.levels[Level::working_set], 400 * kMiB) << "its use fell because less of it is believed";
}

TEST_F(KilledGuest, IsNoneWhoseClaimIsCutDown) {
  at(100, 600 * kMiB, Bytes{0});
  resident_ = 200 * kMiB;
  EXPECT_LT(at(101, 600 * kMiB, Bytes{0}).levels[Level::working_set], 400 * kMiB);
}

TEST_F(KilledGuest, IsNoneThatEndsWithRoomLeft) {
  at(100, 600 * kMiB, 100 * kMiB);
  EXPECT_LT(at(101, 600 * kMiB, 350 * kMiB).levels[Level::working_set], 400 * kMiB);
}

TEST_F(KilledGuest, IsNoneWhoseUseFallsByALittle) {
  at(100, 600 * kMiB, Bytes{0});
  EXPECT_LT(at(101, 600 * kMiB, 110 * kMiB).levels[Level::working_set], 700 * kMiB);
}

TEST(Demand, LetsAGuestKeepThePageCacheItHas) {
  auto sample = guest(2 * kGiB, 1700 * kMiB);
  sample.stats->free = 600 * kMiB;
  EXPECT_EQ(first(sample).levels[Level::cache], (348 + 1100) * kMiB);
  sample.stats->disk_caches = 800 * kMiB;
  EXPECT_EQ(first(sample).levels[Level::cache], (348 + 800) * kMiB);
  sample.stats->disk_caches = Bytes::max() - Bytes{1};
  EXPECT_LE(first(sample).levels[Level::cache], 2 * kGiB);
}

TEST(Demand, AGuestAtRestFillsWhileItsPageCacheGrows) {
  Demand demand;
  const auto at = [&](int second, Bytes used, Bytes cache) {
    GuestSnapshot sample = guest(kGiB, kGiB - used, seconds(second));
    sample.stats->free = kGiB - used - cache;
    return take(demand, sample, seconds(second)).filling;
  };
  EXPECT_FALSE(at(100, 300 * kMiB, 100 * kMiB)) << "nothing is known yet";
  Bytes cache = 100 * kMiB;
  for (int second = 101; second < 120; ++second) {
    const bool filling = at(second, 300 * kMiB, cache += 10 * kMiB);
    EXPECT_EQ(filling, second >= 103) << second << ": by more than the deadband";
  }
  for (int second = 120; second < 160; ++second) at(second, 300 * kMiB, cache);
  EXPECT_FALSE(at(160, 300 * kMiB, cache)) << "it has what it wants";
  at(161, 500 * kMiB, cache);
  for (int second = 162; second < 170; ++second)
    EXPECT_FALSE(at(second, 300 * kMiB, cache += 20 * kMiB)) << "one that swings is not at rest";
}

TEST(Demand, StaysWithinTheGuestsLimitsUnderAnySample) {
  Demand demand;
  for (Bytes available : {Bytes{0}, kMiB, kGiB, 2 * kGiB}) {
    for (int second = 100; second < 110; ++second) {
      auto sample = guest(2 * kGiB, available, seconds(second));
      sample.stats->swap_in = Bytes::max();
      sample.stats->swap_out = Bytes::max() - Bytes{1};
      const auto need = take(demand, sample, seconds(second)).need;
      ASSERT_GE(need, sample.limits.min);
      ASSERT_LE(need, sample.limits.max);
    }
  }
}

}  // namespace
}  // namespace balloon::policy
