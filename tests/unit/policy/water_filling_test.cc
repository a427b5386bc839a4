// SPDX-License-Identifier: Apache-2.0
#include "policy/water_filling.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "base/bytes.h"
#include "base/pages.h"

namespace balloon::policy {
namespace {

std::vector<Bytes> fill(const std::vector<Claim>& claims, Bytes budget) {
  std::vector<Bytes> shares;
  FillSpace space;
  water_fill(claims, budget, shares, space);
  return shares;
}

TEST(WaterFilling, GivesEverybodyWhatTheyWantWhenItFits) {
  EXPECT_EQ(fill({{1 * kGiB, 2 * kGiB, 1}, {Bytes{0}, kGiB, 7}}, 3 * kGiB),
            (std::vector<Bytes>{2 * kGiB, kGiB}));
}

TEST(WaterFilling, FollowsWeightsWhenItDoesNot) {
  const auto shares = fill({{Bytes{0}, 10 * kGiB, 1}, {Bytes{0}, 10 * kGiB, 3}}, 4 * kGiB);
  EXPECT_EQ(shares, (std::vector<Bytes>{kGiB, 3 * kGiB}));
}

TEST(WaterFilling, LeavesNobodyBelowTheirLowerBoundEvenWhenTheBudgetDoes) {
  EXPECT_EQ(fill({{kGiB, 2 * kGiB, 1}, {kGiB, 2 * kGiB, 1}}, kGiB), (std::vector<Bytes>{kGiB, kGiB}));
}

TEST(WaterFilling, HandsOnWhatASatisfiedClaimLeaves) {
  const auto shares =
      fill({{Bytes{0}, 256 * kMiB, 100}, {Bytes{0}, 4 * kGiB, 100}, {Bytes{0}, 4 * kGiB, 100}},
           2 * kGiB + 256 * kMiB);
  EXPECT_EQ(shares, (std::vector<Bytes>{256 * kMiB, kGiB, kGiB}));
}

TEST(WaterFilling, HandlesNoClaims) { EXPECT_TRUE(fill({}, kGiB).empty()); }

TEST(WaterFilling, IsMaxMinFairForRandomClaims) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::vector<Claim> claims(random() % 12 + 1);
    Bytes low{};
    Bytes high{};
    for (Claim& claim : claims) {
      claim.low = whole_pages(Bytes{random()} % (4 * kGiB));
      claim.high = claim.low + whole_pages(Bytes{random()} % (4 * kGiB));
      claim.weight = static_cast<std::uint32_t>(random() % 1000 + 1);
      low += claim.low;
      high += claim.high;
    }
    const Bytes budget = Bytes{random()} % (high + kGiB);
    const auto shares = fill(claims, budget);
    const Bytes sum = std::accumulate(shares.begin(), shares.end(), Bytes{0});
    double level = 0;
    for (std::size_t i = 0; i < claims.size(); ++i) {
      ASSERT_GE(shares[i], claims[i].low);
      ASSERT_LE(shares[i], claims[i].high);
      if (shares[i] > claims[i].low)
        level = std::max(level, static_cast<double>(shares[i]) / claims[i].weight);
    }
    ASSERT_LE(sum, std::max(budget, low));
    if (high >= budget && low <= budget) {
      ASSERT_GE(sum + claims.size() * kPageSize, budget) << "memory left unused";
    }
    // Nobody below their wish has less, per weight, than somebody above their lower bound.
    for (std::size_t i = 0; i < claims.size(); ++i) {
      if (shares[i] < claims[i].high) {
        ASSERT_GE(static_cast<double>(shares[i] + kPageSize) / claims[i].weight * 1.0000001, level);
      }
    }
  }
}

}  // namespace
}  // namespace balloon::policy
