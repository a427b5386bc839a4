#include "policy/progress.h"

#include <gtest/gtest.h>

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

TEST(Progress, NeverHoldsAgainstAGuestThatWasNotAskedToShrink) {
  Progress progress;
  for (int second = 0; second < 100; ++second)
    ASSERT_FALSE(progress.stuck(guest(kGiB, 2 * kGiB), seconds(second), {}));
}

}  // namespace
}  // namespace balloon::policy
