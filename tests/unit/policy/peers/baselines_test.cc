// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/baselines.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

TEST(NoBalloonTest, GivesEveryGuestItsBootMemory) {
  NoBalloon law;
  const Plan plan = law.decide(host(8192, 4000, {guest("a", 2048, 1000, 100, 300)}));
  EXPECT_EQ(plan.guests[0].target, 2048 * kMiB);
}

TEST(NoBalloonTest, LeavesAGuestWithoutADriverAlone) {
  GuestSnapshot deaf = guest("a", 2048, 1000, 100, 300);
  deaf.controllable = false;
  NoBalloon law;
  EXPECT_EQ(law.decide(host(8192, 4000, {deaf})).guests[0].target, 1000 * kMiB);
}

TEST(NoBalloonTest, GrantsWithoutLooking) {
  Snapshot full = host(1024, 0, {});
  full.reservations.push_back({.id = "r", .min = 512 * kMiB, .max = 4096 * kMiB});
  NoBalloon law;
  const Plan plan = law.decide(full);
  EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
  EXPECT_EQ(plan.reservations[0].granted, 4096 * kMiB);
}

TEST(StaticPartitionTest, DividesWhatTheHostHasBesideItselfAndItsReserve) {
  // 8192 of which 6492 are available and 2 x 500 resident: the host itself uses 700. Less the reserve of 400
  // that leaves 7092 for two guests of at most 6000: 3546 each.
  StaticPartition law;
  const Plan plan =
      law.decide(host(8192, 6492, {guest("a", 6000, 6000, 5500, 5500), guest("b", 6000, 6000, 5500, 5500)}));
  EXPECT_EQ(plan.guests[0].target, 3546 * kMiB);
  EXPECT_EQ(plan.guests[1].target, 3546 * kMiB);
}

TEST(StaticPartitionTest, FollowsWeightsAndMaximums) {
  std::vector<GuestSnapshot> guests = {guest("a", 4000, 4000, 4000, 4000), guest("b", 4000, 4000, 4000, 4000),
                                       guest("c", 600, 600, 600, 600)};
  guests[0].limits.weight = 300;
  StaticPartition law;
  // 5000 less 400: c has its 600, the other 4000 are divided 3 : 1.
  const Plan plan = law.decide(host(5000, 5000, guests));
  EXPECT_EQ(plan.guests[0].target, 3000 * kMiB);
  EXPECT_EQ(plan.guests[1].target, 1000 * kMiB);
  EXPECT_EQ(plan.guests[2].target, 600 * kMiB);
}

TEST(StaticPartitionTest, DoesNotMoveWhateverGuestsAndHostDo) {
  StaticPartition law;
  const Plan before = law.decide(host(8192, 6000, {guest("a", 8192, 8192, 7000, 7000)}));
  const Plan after = law.decide(host(8192, 100, {guest("a", 8192, 6000, 0, 0)}));
  EXPECT_EQ(before.guests[0].target, after.guests[0].target);
}

TEST(StaticPartitionTest, DividesAnewWhenAGuestJoins) {
  StaticPartition law;
  law.decide(host(4400, 4400, {guest("a", 8192, 0, 0, 0)}));
  const Plan plan = law.decide(host(4400, 4400, {guest("a", 8192, 0, 0, 0), guest("b", 8192, 0, 0, 0)}));
  EXPECT_EQ(plan.guests[0].target, 2000 * kMiB);
  EXPECT_EQ(plan.guests[1].target, 2000 * kMiB);
}

}  // namespace
}  // namespace balloon::policy::peers
