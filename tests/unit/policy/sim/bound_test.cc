// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/bound.h"

#include <gtest/gtest.h>

#include "policy/sim/runner.h"
#include "policy/sim/scenario_file.h"
#include "policy/sim/sweep.h"

namespace balloon::policy::sim {
namespace {

Scenario parse(const std::string& text) {
  auto scenario = parse_scenario(text, "f.yaml");
  EXPECT_TRUE(scenario) << scenario.error().message;
  return *scenario;
}

TEST(CostBound, IsNothingWhereAllFits) {
  EXPECT_EQ(cost_bound(parse("summary: s\nduration: 60s\nhost: {memory: 4GiB}\n"
                             "guests: [{name: vm, count: 2, memory: 2GiB, anon: {constant: 1GiB}}]\n"),
                       1),
            0);
}

// 2 x (3 GiB + 245.8 MiB of kernel), beside 600 MiB of the host's own and 6 MiB for each VMM, in 4 GiB, for
// 60 s.
TEST(CostBound, IsWhatGuestsUseBeyondWhatTheHostHas) {
  const double bound =
      cost_bound(parse("summary: s\nduration: 120s\nhost: {memory: 4GiB}\njudge: [{from: 60s, to: 120s}]\n"
                       "guests: [{name: vm, count: 2, memory: 4GiB, anon: {constant: 3GiB}}]\n"),
                 1);
  EXPECT_NEAR(bound, 60 * (2 * (3072 + 245.76) + 600 + 12 - 4096) / 1024, 1);
}

TEST(CostBound, CountsWhatAGuestUsesBeyondItsOwnMemory) {
  const double bound = cost_bound(parse("summary: s\nduration: 60s\nhost: {memory: 8GiB}\n"
                                        "guests: [{name: vm, memory: 1GiB, anon: {constant: 2GiB}}]\n"),
                                  1);
  EXPECT_NEAR(bound, 60 * (1024 + 64.0) / 1024, 1);
}

TEST(CostBound, LetsMergedMemoryCountForSeveral) {
  const std::string text =
      "summary: s\nduration: 60s\nhost: {memory: 4GiB, ksm: {run: true, pages_to_scan: 1000, sleep: 20ms}}\n"
      "guests: [{name: vm, count: 2, memory: 4GiB, anon: {constant: 3GiB}, mergeable: {constant: 0.9}}]\n";
  EXPECT_EQ(cost_bound(parse(text), 1), 0);
}

/// With the plant's effects on, the host has swapped by then what is too much for it.
TEST(CostBound, GivesAHostThatBeginsWithMoreThanItHasTheTimeThatItsSwapNeeds) {
  const std::string guests =
      "effects: off\nguests: [{name: vm, count: 4, memory: 4GiB, anon: {constant: 3GiB}}]\n";
  const double fast =
      cost_bound(parse("summary: s\nduration: 60s\nhost: {memory: 8GiB, swap: {size: 8GiB, bandwidth: "
                       "4GiB, latency: 1ms}}\n" +
                       guests),
                 1);
  const double slow =
      cost_bound(parse("summary: s\nduration: 60s\nhost: {memory: 8GiB, swap: {size: 8GiB, bandwidth: "
                       "100MiB, latency: 1ms}}\n" +
                       guests),
                 1);
  EXPECT_LT(slow, 0.8 * fast);
  EXPECT_GT(slow, 0);
}

TEST(CostBound, CountsWhatTheDeviceWritesNotWhatItReads) {
  Scenario scenario = parse(
      "summary: s\nduration: 60s\nhost: {memory: 8GiB, swap: {size: 8GiB, bandwidth: 400MiB, latency: "
      "1ms}}\neffects: off\nguests: [{name: vm, count: 4, memory: 4GiB, anon: {constant: 3GiB}}]\n");
  const double even = cost_bound(scenario, 1);
  scenario.host.swap.write_factor = 4;
  const double slow_writes = cost_bound(scenario, 1);
  scenario.host.swap.write_factor = 1;
  scenario.host.swap.bandwidth /= 4;
  EXPECT_DOUBLE_EQ(slow_writes, cost_bound(scenario, 1));
  EXPECT_LT(slow_writes, 0.9 * even);
}

/// Costs of all laws on random hosts, with a swap device of theirs or with this one.
void expect_no_law_below(SweepOptions options) {
  std::vector<const Contender*> laws;
  for (const Contender& contender : contenders()) laws.push_back(&contender);
  options.first_seed = 4200;
  options.generator.guests = 8;
  options.generator.duration = std::chrono::minutes(5);
  const Sweep result = sweep(laws, options, {});
  for (const BelowBound& run : below_bound(result))
    ADD_FAILURE() << "seed " << run.seed << ": " << run.law->name << " costs " << run.cost << ", bound "
                  << run.bound;
  EXPECT_GT(percentile(result.bounds, 1), 10) << "some of them do not fit";
}

TEST(CostBound, NoLawBeatsItOnFiftySeeds) {
  SweepOptions options;
  options.seeds = 50;
  expect_no_law_below(options);
}

TEST(CostBound, NoLawBeatsItWithAnySwapDevice) {
  for (auto* const device : {&SwapDevice::nvme, &SwapDevice::hdd, &SwapDevice::zram}) {
    SweepOptions options;
    options.seeds = 15;
    options.swap = device;
    expect_no_law_below(options);
  }
}

TEST(CostBound, IsNearTheCostOfTheLawWithForesightWhereNothingFits) {
  auto scenario = load_scenario(std::string(SCENARIO_DIR) + "/s04-simultaneous-burst.yaml");
  ASSERT_TRUE(scenario);
  const double cost = run(*scenario, *find_contender("foresight-2s"), {}).scores.deficit;
  const double bound = cost_bound(*scenario, 1);
  EXPECT_LE(bound, cost);
  EXPECT_GT(bound, 0.7 * cost);
}

}  // namespace
}  // namespace balloon::policy::sim
