#include "policy/sim/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/bytes.h"
#include "policy/sim/random.h"

namespace balloon::policy::sim {
namespace {

TEST(Random, IsXoshiroSeededBySplitMix) {
  // SplitMix64 of 0 starts with these (Vigna's reference implementation).
  EXPECT_EQ(Random(0).next(), 0x99EC5F36CB75F2B4U);
}

TEST(Random, DrawsEvenlyAndNormally) {
  Random random(7);
  double sum = 0;
  double normal_sum = 0;
  double normal_squares = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double value = random.uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    sum += value;
    const double normal = random.normal();
    normal_sum += normal;
    normal_squares += normal * normal;
    ASSERT_LT(random.below(7), 7U);
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 0.01);
  EXPECT_NEAR(normal_sum / 100'000, 0, 0.02);
  EXPECT_NEAR(normal_squares / 100'000, 1, 0.02);
}

TEST(Generator, GivesTheSameScenarioForTheSameSeed) {
  const Scenario first = generate(42, {});
  const Scenario again = generate(42, {});
  const Scenario other = generate(43, {});
  EXPECT_EQ(first.summary, again.summary);
  EXPECT_NE(first.summary, other.summary);
}

TEST(Generator, GivesWhatAHostCouldHave) {
  std::set<std::size_t> counts;
  double least = 10;
  double most = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const Scenario scenario = generate(seed, {});
    counts.insert(scenario.guests.size());
    double memory = 0;
    double minimums = 0;
    for (const GuestSpec& guest : scenario.guests) {
      EXPECT_GE(guest.memory, 512 * kMiB);
      EXPECT_LE(guest.memory, 64 * kGiB);
      EXPECT_LE(guest.limits.min, guest.limits.max);
      EXPECT_EQ(guest.limits.max, guest.memory);
      memory += static_cast<double>(guest.memory);
      minimums += static_cast<double>(guest.limits.min);
    }
    EXPECT_TRUE(std::ranges::is_sorted(scenario.guests, {}, &GuestSpec::name));
    EXPECT_LE(minimums, 0.8 * static_cast<double>(scenario.host.memory)) << "seed " << seed;
    const double overcommit = memory / static_cast<double>(scenario.host.memory);
    least = std::min(least, overcommit);
    most = std::max(most, overcommit);
  }
  EXPECT_GT(counts.size(), 10U);
  EXPECT_LT(least, 1.3);
  EXPECT_GT(most, 2.7);
}

TEST(Generator, TakesTheNumberOfGuestsThatItIsTold) {
  EXPECT_EQ(generate(1, {.guests = 200}).guests.size(), 200U);
  EXPECT_EQ(generate(1, {.guests = 2}).guests.size(), 2U);
}

}  // namespace
}  // namespace balloon::policy::sim
