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
  EXPECT_FALSE(progress.stuck(guest(2 * kGiB, kGiB), seconds(0), {}));
  EXPECT_FALSE(progress.stuck(guest(2 * kGiB, kGiB), seconds(9), {}));
  EXPECT_TRUE(progress.stuck(guest(2 * kGiB, kGiB), seconds(10), {}));
}

TEST(Progress, IsNotRenewedByATargetThatMovesOn) {
  Progress progress;
  bool stuck = false;
  for (int second = 0; second <= 10; ++second) {
    stuck = progress.stuck(guest(2 * kGiB, kGiB - static_cast<Bytes>(second) * kMiB), seconds(second), {});
  }
  EXPECT_TRUE(stuck);
}

TEST(Progress, CountsMegabytesNotPages) {
  Progress progress;
  bool stuck = false;
  for (int second = 0; second <= 10; ++second) {
    stuck = progress.stuck(guest(2 * kGiB - static_cast<Bytes>(second) * 4096, kGiB), seconds(second), {});
  }
  EXPECT_TRUE(stuck);
}

TEST(Progress, IsTriedAgainLater) {
  Progress progress;
  progress.stuck(guest(2 * kGiB, kGiB), seconds(0), {});
  ASSERT_TRUE(progress.stuck(guest(2 * kGiB, kGiB), seconds(10), {}));
  EXPECT_TRUE(progress.stuck(guest(2 * kGiB, 2 * kGiB), seconds(39), {}));
  EXPECT_FALSE(progress.stuck(guest(2 * kGiB, 2 * kGiB), seconds(40), {}));
}

TEST(Progress, DoesNotTakeAPageEveryFiveSecondsForProgress) {
  Progress progress;
  bool stuck = false;
  for (int second = 0; second <= 10; ++second) {
    stuck =
        progress.stuck(guest(2 * kGiB - static_cast<Bytes>(second / 5) * 4096, kGiB), seconds(second), {});
  }
  EXPECT_TRUE(stuck);
}

TEST(Progress, CountsMegabytesASecond) {
  Progress slow;
  Progress fast;
  bool slow_stuck = false;
  bool fast_stuck = false;
  for (Bytes second = 0; second <= 60; ++second) {
    const Time now = seconds(second);
    slow_stuck |= slow.stuck(guest(2 * kGiB - second * 256 * kKiB, kGiB), now, {});
    fast_stuck |= fast.stuck(guest(2 * kGiB - second * kMiB, kGiB), now, {});
  }
  EXPECT_TRUE(slow_stuck) << "256 KiB a second";
  EXPECT_FALSE(fast_stuck) << "1 MiB a second";
}

TEST(Progress, WaitsTwiceAsLongAfterEachFailureInARow) {
  Progress progress;
  std::vector<int> tries;
  bool was = true;
  for (int second = 0; second < 600; ++second) {
    const bool stuck = progress.stuck(guest(2 * kGiB, kGiB), seconds(second), {});
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
    for (; second < end; ++second) stuck = progress.stuck(guest(size -= step, kGiB / 2), seconds(second), {});
    return stuck;
  };
  EXPECT_TRUE(until(130, 0)) << "failed twice";
  until(300, 4 * kMiB);
  EXPECT_TRUE(until(330, 0)) << "fails again";
  EXPECT_FALSE(until(345, 0)) << "and is tried after the first wait, not the third";
}

TEST(Progress, MeasuresHowFastTheBalloonIs) {
  Progress progress;
  EXPECT_EQ(progress.speed({}), Tunables{}.balloon_speed);
  for (Bytes second = 0; second < 20; ++second)
    progress.stuck(guest(4 * kGiB - second * 100 * kMiB, kGiB), seconds(second), {});
  EXPECT_NEAR(progress.speed({}), 100.0 * kMiB, kMiB);
  for (int second = 20; second < 40; ++second) progress.stuck(guest(2 * kGiB, kGiB), seconds(second), {});
  EXPECT_EQ(progress.speed({}), 0) << "stuck";
}

TEST(Progress, NeverHoldsAgainstAGuestThatWasNotAskedToShrink) {
  Progress progress;
  for (int second = 0; second < 100; ++second)
    ASSERT_FALSE(progress.stuck(guest(kGiB, 2 * kGiB), seconds(second), {}));
}

}  // namespace
}  // namespace balloon::policy
