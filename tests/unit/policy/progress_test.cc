// SPDX-License-Identifier: Apache-2.0
#include "policy/progress.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

GuestSnapshot guest(Bytes actual, Bytes target) {
  GuestSnapshot guest;
  guest.actual = actual;
  guest.target = target;
  return guest;
}

TEST(Progress, IsStuckWhenNothingIsFreedForTheWholeTime) {
  Progress progress;
  EXPECT_FALSE(progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(0), {}));
  EXPECT_FALSE(progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(9), {}));
  EXPECT_TRUE(progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(10), {}));
}

TEST(Progress, IsNotRenewedByATargetThatMovesOn) {
  Progress progress;
  bool stuck = false;
  for (int second = 0; second <= 10; ++second) {
    stuck = progress.stuck(guest(2 * kGiB, kGiB - second * kMiB), Bytes{0}, seconds(second), {});
  }
  EXPECT_TRUE(stuck);
}

TEST(Progress, CountsMegabytesNotPages) {
  Progress progress;
  bool stuck = false;
  for (int second = 0; second <= 10; ++second) {
    stuck = progress.stuck(guest(2 * kGiB - static_cast<Bytes>(second) * 4096, kGiB), Bytes{0},
                           seconds(second), {});
  }
  EXPECT_TRUE(stuck);
}

TEST(Progress, IsTriedAgainLater) {
  Progress progress;
  progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(0), {});
  ASSERT_TRUE(progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(10), {}));
  EXPECT_TRUE(progress.stuck(guest(2 * kGiB, 2 * kGiB), Bytes{0}, seconds(39), {}));
  EXPECT_FALSE(progress.stuck(guest(2 * kGiB, 2 * kGiB), Bytes{0}, seconds(40), {}));
}

TEST(Progress, DoesNotTakeAPageEveryFiveSecondsForProgress) {
  Progress progress;
  bool stuck = false;
  for (int second = 0; second <= 10; ++second) {
    stuck = progress.stuck(guest(2 * kGiB - static_cast<Bytes>(second / 5) * 4096, kGiB), Bytes{0},
                           seconds(second), {});
  }
  EXPECT_TRUE(stuck);
}

TEST(Progress, CountsMegabytesASecond) {
  Progress slow;
  Progress fast;
  bool slow_stuck = false;
  bool fast_stuck = false;
  for (std::uint64_t second = 0; second <= 60; ++second) {
    const Time now = seconds(second);
    slow_stuck |= slow.stuck(guest(2 * kGiB - second * 256 * kKiB, kGiB), Bytes{0}, now, {});
    fast_stuck |= fast.stuck(guest(2 * kGiB - second * kMiB, kGiB), Bytes{0}, now, {});
  }
  EXPECT_TRUE(slow_stuck) << "256 KiB a second";
  EXPECT_FALSE(fast_stuck) << "1 MiB a second";
}

TEST(Progress, WaitsTwiceAsLongAfterEachFailureInARow) {
  Progress progress;
  std::vector<int> tries;
  bool was = true;
  for (int second = 0; second < 600; ++second) {
    const bool stuck = progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(second), {});
    if (was && !stuck) tries.push_back(second);
    was = stuck;
  }
  EXPECT_EQ(tries, (std::vector<int>{0, 40, 110, 240, 490}));
}

TEST(Progress, ForgetsFailuresOnceTheBalloonMoves) {
  Progress progress;
  int second = 0;
  const auto until = [&](int end, Bytes step) {
    bool stuck = false;
    Bytes size = 2 * kGiB;
    for (; second < end; ++second)
      stuck = progress.stuck(guest(size -= step, kGiB / 2), Bytes{0}, seconds(second), {});
    return stuck;
  };
  EXPECT_TRUE(until(130, Bytes{0})) << "failed twice";
  until(300, 4 * kMiB);
  EXPECT_TRUE(until(330, Bytes{0})) << "fails again";
  EXPECT_FALSE(until(345, Bytes{0})) << "and is tried after the first wait, not the third";
}

TEST(Progress, MeasuresHowFastTheBalloonIs) {
  Progress progress;
  EXPECT_EQ(progress.speed({}), Tunables{}.balloon_speed);
  for (std::uint64_t second = 0; second < 20; ++second)
    progress.stuck(guest(4 * kGiB - second * 100 * kMiB, kGiB), Bytes{0}, seconds(second), {});
  EXPECT_NEAR(progress.speed({}), static_cast<double>(100 * kMiB), static_cast<double>(kMiB));
  for (int second = 20; second < 40; ++second)
    progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(second), {});
  EXPECT_EQ(progress.speed({}), 0) << "stuck";
}

TEST(Progress, IsTriedAgainSoonerOnceTheGuestHasClearlyMoreToGive) {
  const auto tried_again_at = [](Bytes later) {
    Progress progress;
    progress.stuck(guest(2 * kGiB, kGiB), 10 * kMiB, seconds(0), {});
    EXPECT_TRUE(progress.stuck(guest(2 * kGiB, kGiB), 10 * kMiB, seconds(10), {}));
    int second = 11;
    while (progress.stuck(guest(2 * kGiB, 2 * kGiB), later, seconds(second), {})) ++second;
    return second;
  };
  EXPECT_EQ(tried_again_at(10 * kMiB), 40);
  EXPECT_EQ(tried_again_at(40 * kMiB), 40);
  EXPECT_EQ(tried_again_at(60 * kMiB), 20);
}

TEST(Progress, RestsWhereItGotStuckThoughTheDriverDeflatesOnOom) {
  Progress progress;
  progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(0), {});
  ASSERT_TRUE(progress.stuck(guest(2 * kGiB, kGiB), Bytes{0}, seconds(10), {}));
  ASSERT_TRUE(progress.stuck(guest(2 * kGiB + 50 * kMiB, 2 * kGiB), Bytes{0}, seconds(20), {}));
  EXPECT_EQ(progress.resting_at(), 2 * kGiB);
  progress.stuck(guest(3 * kGiB, 3 * kGiB), Bytes{0}, seconds(21), {});
  EXPECT_EQ(progress.resting_at(), 3 * kGiB) << "grown";
}

TEST(Progress, TakesALittleOffTargetForThere) {
  Progress progress;
  for (int second = 0; second < 100; ++second)
    ASSERT_FALSE(progress.stuck(guest(kGiB + 8 * kMiB, kGiB), Bytes{0}, seconds(second), {}));
}

TEST(Progress, NeverHoldsAgainstAGuestThatWasNotAskedToShrink) {
  Progress progress;
  for (int second = 0; second < 100; ++second)
    ASSERT_FALSE(progress.stuck(guest(kGiB, 2 * kGiB), Bytes{0}, seconds(second), {}));
}

}  // namespace
}  // namespace balloon::policy
