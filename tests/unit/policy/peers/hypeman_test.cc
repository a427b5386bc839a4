// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/hypeman.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

constexpr double kPage = 0.01;
using std::chrono::seconds;

/// Guests of 2048 MiB (floor 1024) and 1024 MiB (floor 512) on a host of 10000 MiB.
Snapshot box(std::uint64_t available, std::uint64_t a = 2048, std::uint64_t b = 1024) {
  return host(10000, available, {guest("a", 2048, a, 0, 0), guest("b", 1024, b, 0, 0)});
}

TEST(HypemanTest, LeavesGuestsAloneUntilTheHighWatermark) {
  Hypeman law;
  EXPECT_EQ(law.decide(box(1001)).guests[0].target, 2048 * kMiB);
}

TEST(HypemanTest, TakesWhatIsMissingToTheLowWatermarkInProportionToWhatEachCanGive) {
  Hypeman law;
  // 500 MiB are missing to 15 %. Of 1024 + 512 MiB: 333.3 and 166.7; at most 256 a step.
  const Plan plan = law.decide(box(1000));
  EXPECT_NEAR(mib(plan.guests[0].target), 2048 - 256, kPage);
  EXPECT_NEAR(mib(plan.guests[1].target), 1024 - 166.67, kPage);
  EXPECT_EQ(plan.state, HostState::tight);
}

TEST(HypemanTest, WaitsAFewSecondsBetweenSteps) {
  Hypeman law;
  law.decide(box(1000));
  Snapshot next = box(1000, 1792, 857);
  next.now += seconds(4);
  EXPECT_EQ(law.decide(next).guests[0].target, 1792 * kMiB);
  next.now += seconds(1);
  EXPECT_NEAR(mib(law.decide(next).guests[0].target), 2048 - 333.33, kPage);
}

TEST(HypemanTest, SkipsSmallChanges) {
  Hypeman law;
  law.decide(box(1000));
  Snapshot next = box(1400);  // still under pressure; 100 MiB are missing: 66.7 and 33.3
  next.now += seconds(6);
  const Plan plan = law.decide(next);
  EXPECT_NEAR(mib(plan.guests[0].target), 2048 - 66.67, kPage);
  EXPECT_EQ(plan.guests[1].target, 1024 * kMiB);
}

TEST(HypemanTest, GivesAllBackStepByStepFromTheLowWatermarkOn) {
  Hypeman law;
  law.decide(box(1000));
  Snapshot next = box(1500, 1500, 1000);
  next.now += seconds(6);
  const Plan plan = law.decide(next);
  EXPECT_NEAR(mib(plan.guests[0].target), 1500 + 256, kPage);
  EXPECT_EQ(plan.guests[1].target, 1000 * kMiB) << "24 MiB are too little to move";
  EXPECT_EQ(plan.state, HostState::normal);
}

TEST(HypemanTest, KeepsWhatItTookWhileTheHostIsStressed) {
  Hypeman law;
  Snapshot stressed = box(5000, 1792, 896);  // 256 + 128 taken: in proportion already
  stressed.host.pressure_some = 0.01;
  const Plan plan = law.decide(stressed);
  EXPECT_EQ(plan.guests[0].target, 1792 * kMiB);
  EXPECT_EQ(plan.guests[1].target, 896 * kMiB);
}

TEST(HypemanTest, TakesNoMoreThanDownToTheFloor) {
  Hypeman law;
  Snapshot next = box(0, 1030, 520);
  Plan plan = law.decide(next);
  EXPECT_EQ(plan.guests[0].target, 1030 * kMiB) << "too near to move";
  next = box(0, 1200, 700);
  next.host.total = 100000 * kMiB;
  next.now += seconds(6);
  plan = law.decide(next);
  EXPECT_EQ(plan.guests[0].target, 1024 * kMiB);
  EXPECT_EQ(plan.guests[1].target, 512 * kMiB);
}

TEST(HypemanTest, LeavesGuestsWithoutADriverOut) {
  Snapshot snapshot = box(1000);
  snapshot.guests[0].controllable = false;
  Hypeman law;
  const Plan plan = law.decide(snapshot);
  EXPECT_EQ(plan.guests[0].target, 2048 * kMiB);
  EXPECT_NEAR(mib(plan.guests[1].target), 1024 - 256, kPage) << "the other one has to give all 500 MiB";
}

}  // namespace
}  // namespace balloon::policy::peers
