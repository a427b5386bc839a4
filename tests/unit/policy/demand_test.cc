#include "policy/demand.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

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

TEST(Demand, CountsAsUsedWhatIsNotAvailableWhateverTheBalloonHolds) {
  Demand demand;
  EXPECT_EQ(demand.update(guest(kGiB, 600 * kMiB), seconds(100), {}).used, 424 * kMiB);
}

TEST(Demand, AddsTheLargerMargin) {
  EXPECT_EQ(Demand().update(guest(kGiB, 624 * kMiB), seconds(100), {}).need, (400 + 128) * kMiB);
  EXPECT_NEAR(static_cast<double>(Demand().update(guest(2 * kGiB, 1048 * kMiB), seconds(100), {}).need),
              1150.0 * kMiB, kMiB);
}

TEST(Demand, RisesAtOnceAheadOfAGrowingGuest) {
  Demand demand;
  demand.update(guest(kGiB, 624 * kMiB, seconds(100)), seconds(100), {});
  const auto after = demand.update(guest(kGiB, 524 * kMiB, seconds(101)), seconds(101), {});
  EXPECT_EQ(after.need, (500 + 128 + 3 * 100) * kMiB);
}

TEST(Demand, FallsByHalfInItsHalfLife) {
  Demand demand;
  demand.update(guest(2 * kGiB, 548 * kMiB, seconds(100)), seconds(100), {});
  const auto high = demand.update(guest(2 * kGiB, 548 * kMiB, seconds(101)), seconds(101), {}).need;
  const auto later = demand.update(guest(2 * kGiB, 1648 * kMiB, seconds(111)), seconds(111), {}).need;
  EXPECT_NEAR(static_cast<double>(later), static_cast<double>((high + (400 + 128) * kMiB) / 2), kMiB);
}

TEST(Demand, TakesMoreThanTheGuestHasWhenItHasNothingLeft) {
  const auto estimate = Demand().update(guest(kGiB, 4 * kMiB), seconds(100), {});
  EXPECT_TRUE(estimate.pressure);
  EXPECT_GE(estimate.need, kGiB + 512 * kMiB);
}

TEST(Demand, CountsSwapTrafficAsNeed) {
  Demand demand;
  auto first = guest(kGiB, 300 * kMiB, seconds(100));
  first.stats->swap_out = 0;
  first.stats->swap_in = 0;
  const auto before = demand.update(first, seconds(100), {}).need;
  auto second = guest(kGiB, 300 * kMiB, seconds(101));
  second.stats->swap_out = 200 * kMiB;
  second.stats->swap_in = 10 * kMiB;
  const auto after = demand.update(second, seconds(101), {});
  EXPECT_GT(after.need, before + 190 * kMiB);
  EXPECT_TRUE(after.pressure) << "it reads back from swap";
}

TEST(Demand, IsNotMovedByCountersThatRunBackwards) {
  Demand demand;
  auto first = guest(kGiB, 624 * kMiB, seconds(100));
  first.stats->swap_out = 5 * kGiB;
  demand.update(first, seconds(100), {});
  auto second = guest(kGiB, 624 * kMiB, seconds(101));
  second.stats->swap_out = 0;
  EXPECT_EQ(demand.update(second, seconds(101), {}).need, (400 + 128) * kMiB);
}

TEST(Demand, DoesNotBelieveTheImpossible) {
  EXPECT_TRUE(Demand::usable(guest(kGiB, 600 * kMiB)));
  EXPECT_FALSE(Demand::usable(guest(kGiB, 3 * kGiB))) << "available above boot memory";
  EXPECT_FALSE(Demand::usable(guest(kGiB, ~0ULL))) << "2^64-1";
  EXPECT_FALSE(Demand::usable(guest(3 * kGiB, kGiB))) << "actual above boot memory";
  auto available_above_total = guest(kGiB, 600 * kMiB);
  available_above_total.stats->total = 500 * kMiB;
  EXPECT_FALSE(Demand::usable(available_above_total));
  auto nothing = guest(kGiB, 0);
  nothing.stats->available.reset();
  EXPECT_FALSE(Demand::usable(nothing));
}

TEST(Demand, StaysWithinTheGuestsLimitsUnderAnySample) {
  Demand demand;
  for (Bytes available : {Bytes{0}, kMiB, kGiB, 2 * kGiB}) {
    for (int second = 100; second < 110; ++second) {
      auto sample = guest(2 * kGiB, available, seconds(second));
      sample.stats->swap_in = ~0ULL;
      sample.stats->swap_out = ~0ULL - 1;
      const auto need = demand.update(sample, seconds(second), {}).need;
      ASSERT_GE(need, sample.limits.min);
      ASSERT_LE(need, sample.limits.max);
    }
  }
}

}  // namespace
}  // namespace balloon::policy
