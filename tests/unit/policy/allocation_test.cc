// SPDX-License-Identifier: Apache-2.0
#include "policy/allocation.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

/// In MiB; its maximum is 2 GiB.
Consumer consumer(std::uint64_t minimum, std::uint64_t working_set, std::uint64_t need,
                  std::uint32_t weight = 100, std::uint32_t group = kNoGroup) {
  return {.levels = Levels({minimum * kMiB, working_set * kMiB, need * kMiB, Bytes{0}, Bytes{0}, Bytes{0},
                            Bytes{0}, 2 * kGiB}),
          .weight = weight,
          .group = group};
}

/// One that needs 300 MiB, with higher levels above that.
Consumer with_wishes(std::uint64_t claim, std::uint64_t peak, std::uint64_t cache) {
  return {.levels = Levels({100 * kMiB, 200 * kMiB, 300 * kMiB, claim * kMiB, peak * kMiB, cache * kMiB,
                            Bytes{0}, 2 * kGiB}),
          .weight = 100};
}

GroupLimits group(std::string name, std::uint64_t min, std::uint64_t max, std::uint32_t weight) {
  return {std::move(name), min * kMiB, max * kMiB, weight};
}

class AllocationTest : public testing::Test {
 protected:
  HostState share(std::uint64_t budget_mib, Surplus surplus = Surplus::headroom,
                  std::uint64_t headroom_mib = 0) {
    return allocation_.share(consumers_, groups_, budget_mib * kMiB, headroom_mib * kMiB, surplus);
  }
  std::uint64_t mib(std::size_t i) const { return allocation_.shares()[i] / kMiB; }

  std::vector<Consumer> consumers_;
  std::vector<GroupLimits> groups_;
  Allocation allocation_;
};

TEST_F(AllocationTest, GivesEverybodyTheirNeedAndKeepsTheRest) {
  consumers_ = {consumer(100, 200, 300), consumer(100, 400, 500)};
  EXPECT_EQ(share(1000), HostState::normal);
  EXPECT_EQ(mib(0), 300U);
  EXPECT_EQ(mib(1), 500U);
}

TEST_F(AllocationTest, LeavesGuestsTheirPageCacheOnceTheHeadroomIsFree) {
  consumers_ = {with_wishes(0, 0, 500), with_wishes(0, 0, 900)};
  EXPECT_EQ(share(2000, Surplus::headroom, 200), HostState::normal);
  EXPECT_EQ(mib(0), 500U);
  EXPECT_EQ(mib(1), 900U);
  EXPECT_EQ(share(1400, Surplus::headroom, 200), HostState::normal);
  EXPECT_EQ(mib(0), 500U);
  EXPECT_EQ(mib(1), 700U) << "the larger cache is the first to give";
  EXPECT_EQ(share(700, Surplus::headroom, 200), HostState::normal);
  EXPECT_EQ(mib(0), 300U) << "needs come before the headroom";
  EXPECT_EQ(mib(1), 300U);
}

TEST_F(AllocationTest, GivesAGuestThatGrowsMoreBeforeOthersWhoOnlyNeededMoreAMomentAgo) {
  consumers_ = {with_wishes(800, 800, 800), with_wishes(0, 800, 800)};
  EXPECT_EQ(share(1300, Surplus::headroom, 100), HostState::normal);
  EXPECT_EQ(mib(0), 800U);
  EXPECT_EQ(mib(1), 400U);
  EXPECT_EQ(share(1100, Surplus::headroom, 100), HostState::normal);
  EXPECT_EQ(mib(0), 800U) << "the headroom is for bursts";
  EXPECT_EQ(mib(1), 300U);
}

TEST_F(AllocationTest, GivesTheRestByWeightToThoseThatWantItAndLeavesTheHeadroomFree) {
  const auto reader = [](std::uint32_t weight) {
    return Consumer{.levels = Levels(
                        {Bytes{0}, Bytes{0}, 300 * kMiB, Bytes{0}, Bytes{0}, 500 * kMiB, 2 * kGiB, 2 * kGiB}),
                    .weight = weight};
  };
  consumers_ = {reader(100), reader(200), with_wishes(0, 0, 600)};
  EXPECT_EQ(share(3300, Surplus::wanted, 300), HostState::normal);
  EXPECT_EQ(mib(0), 800U);
  EXPECT_EQ(mib(1), 1600U);
  EXPECT_EQ(mib(2), 600U) << "it has the cache that it has";
  EXPECT_EQ(share(1700, Surplus::wanted, 300), HostState::normal);
  EXPECT_EQ(mib(0), 450U) << "the cache that others have comes before more of its own";
  EXPECT_EQ(mib(1), 500U);
  EXPECT_EQ(mib(2), 450U);
  share(3300, Surplus::headroom, 300);
  EXPECT_EQ(mib(0), 500U) << "the rest is the host's";
}

TEST_F(AllocationTest, GivesTheRestByWeightWhenItIsForGuests) {
  consumers_ = {consumer(100, 200, 300, 100), consumer(100, 200, 300, 200)};
  EXPECT_EQ(share(1500, Surplus::guests), HostState::normal);
  EXPECT_EQ(mib(0), 500U);
  EXPECT_EQ(mib(1), 1000U);
}

TEST_F(AllocationTest, GivesUpMarginsAndCacheBeforeAnybodysPrograms) {
  consumers_ = {consumer(100, 700, 800, 100), consumer(100, 200, 900, 1000)};
  EXPECT_EQ(share(1200), HostState::tight);
  EXPECT_EQ(mib(0), 700U) << "its programs' memory, though the other weighs ten times as much";
  EXPECT_EQ(mib(1), 500U);
}

TEST_F(AllocationTest, GoesByWeightBelowThatDownToTheMinimumsAndNoFurther) {
  consumers_ = {consumer(100, 900, 900, 100), consumer(100, 900, 900, 200)};
  EXPECT_EQ(share(900), HostState::tight);
  EXPECT_EQ(mib(0), 300U);
  EXPECT_EQ(mib(1), 600U);
  EXPECT_EQ(share(150), HostState::infeasible);
  EXPECT_EQ(mib(0), 100U);
  EXPECT_EQ(mib(1), 100U);
}

TEST_F(AllocationTest, SharesAmongGroupsFirstAndAmongTheirGuestsThen) {
  groups_ = {group("batch", 0, 8192, 100), group("web", 0, 8192, 300)};
  consumers_ = {consumer(0, 900, 900, 100, 0), consumer(0, 900, 900, 100, 0), consumer(0, 900, 900, 100, 1),
                consumer(0, 900, 900, 200, 1)};
  EXPECT_EQ(share(1600), HostState::tight);
  EXPECT_EQ(mib(0) + mib(1), 400U);
  EXPECT_EQ(mib(0), mib(1));
  EXPECT_EQ(mib(2), 400U);
  EXPECT_EQ(mib(3), 800U);
}

TEST_F(AllocationTest, ManyGuestsOfAGroupGetNoMoreThanOne) {
  groups_ = {group("many", 0, 8192, 100), group("one", 0, 8192, 100)};
  consumers_.assign(9, consumer(0, 900, 900, 100, 0));
  consumers_.push_back(consumer(0, 900, 900, 100, 1));
  share(1800);
  EXPECT_EQ(mib(9), 900U);
  EXPECT_EQ(mib(0), 100U);
}

TEST_F(AllocationTest, KeepsAGroupWithinItsMaximumAndLeavesTheRestToOthers) {
  groups_ = {group("capped", 0, 600, 1000)};
  consumers_ = {consumer(0, 500, 500, 100, 0), consumer(0, 500, 500, 100, 0), consumer(0, 500, 500)};
  EXPECT_EQ(share(2000), HostState::normal);
  EXPECT_EQ(mib(0), 300U);
  EXPECT_EQ(mib(1), 300U);
  EXPECT_EQ(mib(2), 500U);
}

TEST_F(AllocationTest, GuaranteesAGroupItsMinimumAsFarAsItsGuestsNeedIt) {
  groups_ = {group("safe", 800, 8192, 1)};
  consumers_ = {consumer(0, 600, 600, 100, 0), consumer(0, 600, 600, 10000)};
  share(1000);
  EXPECT_EQ(mib(0), 600U) << "all it needs is guaranteed";
  EXPECT_EQ(mib(1), 400U);
}

TEST_F(AllocationTest, KeepsGuestsMinimumsAboveTheirGroupsMaximum) {
  groups_ = {group("small", 0, 100, 100)};
  consumers_ = {consumer(200, 300, 400, 100, 0)};
  share(1000);
  EXPECT_EQ(mib(0), 200U);
}

TEST_F(AllocationTest, AddsUpToTheBudgetHoweverGuestsAreGrouped) {
  groups_ = {group("a", 50, 900, 100), group("b", 0, 700, 250), group("empty", 100, 200, 1)};
  for (std::uint32_t i = 0; i < 30; ++i)
    consumers_.push_back(consumer(i, 20 + 3 * i, 60 + 5 * i, 1 + i % 7, i % 3 == 2 ? kNoGroup : i % 3));
  for (std::uint64_t budget = 500; budget < 5000; budget += 100) {
    const HostState state = share(budget);
    const auto shares = allocation_.shares();
    const Bytes sum = std::accumulate(shares.begin(), shares.end(), Bytes{0});
    if (state != HostState::infeasible) {
      ASSERT_LE(sum, budget * kMiB);
    }
    for (std::size_t i = 0; i < consumers_.size(); ++i) {
      ASSERT_GE(shares[i], consumers_[i].levels[Level::minimum]);
      ASSERT_LE(shares[i], consumers_[i].levels[Level::need]);
    }
  }
}

}  // namespace
}  // namespace balloon::policy
