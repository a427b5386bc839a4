// SPDX-License-Identifier: Apache-2.0
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

/// Over guests of 100 scenarios, the part for which `holds` does.
double part_of_guests(bool (*holds)(const GuestSpec&)) {
  double all = 0;
  double those = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    for (const GuestSpec& guest : generate(seed, {}).guests) {
      all += 1;
      those += holds(guest) ? 1 : 0;
    }
  }
  return those / all;
}

TEST(Generator, MostGuestsHaveFilesThatAreReadAgainAtACostAndFewOfThemMapped) {
  EXPECT_GT(part_of_guests([](const GuestSpec& guest) {
              return guest.effects.reread > Time{} &&
                     guest.cold[0].value > 0.15 * static_cast<double>(guest.memory);
            }),
            0.6);
  EXPECT_LT(part_of_guests([](const GuestSpec& guest) { return guest.effects.mapped > 0.2; }), 0.2);
}

TEST(Generator, EveryGuestTremblesAndErrsByAMeasureOfItsOwn) {
  EXPECT_EQ(part_of_guests([](const GuestSpec& guest) {
              const GuestEffects& effects = guest.effects;
              return effects.noise_rest > 0 && effects.noise_load > effects.noise_rest &&
                     effects.lru_error > 0;
            }),
            1);
}

TEST(Generator, GuestsLackSwapDeflateOnOomAndReportingAsManyDo) {
  EXPECT_NEAR(part_of_guests([](const GuestSpec& guest) { return guest.swap.size == Bytes{0}; }), 0.4, 0.06);
  EXPECT_NEAR(part_of_guests([](const GuestSpec& guest) { return !guest.deflate_on_oom; }), 0.6, 0.06);
  EXPECT_NEAR(part_of_guests([](const GuestSpec& guest) { return !guest.free_page_reporting; }), 0.5, 0.06);
}

TEST(Generator, SomeGuestsAreBlindStuckBootingOrLoseTheirConnection) {
  EXPECT_GT(part_of_guests([](const GuestSpec& guest) { return !guest.stats.present; }), 0.01);
  EXPECT_GT(part_of_guests([](const GuestSpec& guest) { return guest.driver == Driver::stuck; }), 0.01);
  EXPECT_GT(part_of_guests([](const GuestSpec& guest) { return guest.joins > Time{}; }), 0.08);
  int lost = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed)
    lost +=
        static_cast<int>(std::ranges::count(generate(seed, {}).events, Event::Kind::link_lost, &Event::kind));
  EXPECT_GT(lost, 20);
}

TEST(Generator, ZramCostsMemoryAndCpuWhereAHostHasIt) {
  int hosts = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const SwapDevice swap = generate(seed, {}).host.swap;
    if (swap.memory_ratio == 0) continue;
    ++hosts;
    EXPECT_GT(swap.cpu_out, 0);
  }
  EXPECT_GT(hosts, 20);
}

TEST(Generator, TheFirstGeneratorHasNoEffects) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Scenario scenario = generate(seed, {.generator = 1});
    EXPECT_FALSE(scenario.host.effects.device_costs);
    EXPECT_EQ(scenario.host.swap.memory_ratio, 0);
    for (const GuestSpec& guest : scenario.guests) {
      EXPECT_EQ(guest.effects.mapped, 1);
      EXPECT_TRUE(guest.stream.empty() && guest.arc.empty());
    }
  }
}

TEST(Generator, TakesTheNumberOfGuestsThatItIsTold) {
  EXPECT_EQ(generate(1, {.guests = 200}).guests.size(), 200U);
  EXPECT_EQ(generate(1, {.guests = 2}).guests.size(), 2U);
}

}  // namespace
}  // namespace balloon::policy::sim
