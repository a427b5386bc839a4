// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/sensitivity.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "policy/sim/runner.h"

namespace balloon::policy::sim {
namespace {

TEST(PlantConstants, HaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const PlantConstant& constant : plant_constants()) EXPECT_TRUE(names.insert(constant.name).second);
  EXPECT_GE(names.size(), 10U);
}

std::vector<double> costs(const Scenario& scenario, std::uint64_t seed) {
  return {run(scenario, *find_contender("none"), {.seed = seed}).scores.cost,
          run(scenario, *find_contender("squeezed"), {.seed = seed}).scores.cost};
}

bool changes_costs(const PlantConstant& constant) {
  for (auto* const device : {&SwapDevice::nvme, &SwapDevice::zram, &SwapDevice::hdd}) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      Scenario scenario =
          generate(seed, {.guests = 5, .overcommit = 2.5, .duration = std::chrono::minutes(4)});
      scenario.host.swap = device(scenario.host.swap.size);
      const std::vector<double> before = costs(scenario, seed);
      constant.scale(scenario, 0.5);
      if (costs(scenario, seed) != before) return true;
    }
  }
  return false;
}

TEST(PlantConstants, EachChangesWhatSomeScenarioCosts) {
  for (const PlantConstant& constant : plant_constants()) {
    // What statistics say of free memory, and whether a fault is a major one, costs nothing by itself.
    const bool seen_only = constant.name.starts_with("noise") || constant.name.starts_with("mapped");
    EXPECT_TRUE(changes_costs(constant) || seen_only) << constant.name;
  }
}

TEST(PlantConstants, PartsStayPartsWhenTheyAreDoubled) {
  Scenario scenario = generate(1, {});
  for (const PlantConstant& constant : plant_constants()) {
    for (int times = 0; times < 10; ++times) constant.scale(scenario, 2);
  }
  EXPECT_LT(scenario.host.swap.memory_ratio, 1);
  for (const GuestSpec& guest : scenario.guests) {
    for (auto GuestEffects::* const part :
         {&GuestEffects::mapped, &GuestEffects::lru_error, &GuestEffects::split, &GuestEffects::split_cost})
      EXPECT_LE(guest.effects.*part, 1) << guest.name;
    EXPECT_LT(guest.swap.memory_ratio, 1) << guest.name;
  }
}

TEST(SensitivityTest, NamesLawsThatChangePlaces) {
  SweepOptions options;
  options.seeds = 2;
  options.generator.guests = 3;
  options.generator.duration = std::chrono::minutes(4);
  const Sensitivity result = sensitivity({find_contender("none"), find_contender("static")}, options, {});
  ASSERT_EQ(result.rows.size(), 1 + 2 * plant_constants().size());
  const SensitivityRow& base = result.rows.front();
  EXPECT_TRUE(base.changed.empty());
  for (const SensitivityRow& row : result.rows) {
    const bool swapped = (row.cost[0] < 0.99 * row.cost[1] && base.cost[1] < 0.99 * base.cost[0]) ||
                         (row.cost[1] < 0.99 * row.cost[0] && base.cost[0] < 0.99 * base.cost[1]);
    EXPECT_EQ(!row.changed.empty(), swapped) << row.constant << " x" << row.factor;
  }
}

}  // namespace
}  // namespace balloon::policy::sim
