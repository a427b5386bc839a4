// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/esx.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

/// Two guests of 4 GiB, at all of it; a uses 1 GiB, b all but 100 MiB. Of 8 GiB, `available` MiB are so.
Snapshot box(std::uint64_t available) {
  std::vector<GuestSnapshot> guests = {guest("a", 4096, 4096, 3072, 3072), guest("b", 4096, 4096, 100, 100)};
  for (GuestSnapshot& guest : guests) guest.on_host.resident = guest.actual;
  return host(8192 + available, available, std::move(guests));
}

/// The same guests have touched 2900 MiB each, on a host of 6500 that uses 600 itself.
Snapshot tight() {
  Snapshot snapshot = box(100);
  snapshot.host.total = 6500 * kMiB;
  for (GuestSnapshot& guest : snapshot.guests) guest.on_host.resident = 2900 * kMiB;
  return snapshot;
}

Plan tick(Esx& law, Snapshot& snapshot, std::chrono::seconds later = std::chrono::seconds(1)) {
  const Plan plan = law.decide(snapshot);
  for (std::size_t i = 0; i < plan.guests.size(); ++i) snapshot.guests[i].target = plan.guests[i].target;
  snapshot.now += later;
  return plan;
}

TEST(EsxTest, TakesNothingWhileEnoughIsFree) {
  Esx law;
  Snapshot snapshot = box(1000);
  for (int i = 0; i < 60; ++i) {
    const Plan plan = tick(law, snapshot);
    EXPECT_EQ(plan.guests[0].target, 4096 * kMiB);
    EXPECT_EQ(plan.guests[1].target, 4096 * kMiB);
  }
}

// 6 % of 6500 MiB are to be free, so that 5510 are left. Idle memory costs four times as much. What b pays
// for 3793.6 in use, a pays for 1024 in use and 692.4 idle.
TEST(EsxTest, TaxesIdleMemoryWhenFreeMemoryIsShort) {
  Esx law;
  Snapshot snapshot = tight();
  const Plan plan = tick(law, snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 1716.4, 1);
  EXPECT_NEAR(mib(plan.guests[1].target), 3793.6, 1);
  EXPECT_EQ(plan.state, HostState::tight);
}

TEST(EsxTest, SharesByWeightWhereAllIsInUse) {
  Esx law;
  std::vector<GuestSnapshot> guests = {guest("a", 8192, 8192, 0, 0), guest("b", 8192, 8192, 0, 0)};
  guests[0].limits.weight = 200;
  Snapshot snapshot = host(10000, 0, std::move(guests));
  for (GuestSnapshot& guest : snapshot.guests) guest.on_host.resident = 5000 * kMiB;
  const Plan plan = tick(law, snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target) / mib(plan.guests[1].target), 2, 0.001);
}

TEST(EsxTest, LeavesAGuestItsReservationAndThirtyFivePercentOfItsMemory) {
  Esx law;
  std::vector<GuestSnapshot> guests = {guest("a", 4096, 4096, 4000, 4000), guest("b", 4096, 4096, 0, 0)};
  Snapshot snapshot = host(3000, 0, std::move(guests));
  for (GuestSnapshot& guest : snapshot.guests) guest.on_host.resident = 1500 * kMiB;
  EXPECT_NEAR(mib(tick(law, snapshot).guests[0].target), 0.35 * 4096, 0.01);
  snapshot.guests[0].limits.min = 2000 * kMiB;
  tick(law, snapshot, std::chrono::seconds(20));
  EXPECT_EQ(tick(law, snapshot).guests[0].target, 2000 * kMiB);
}

TEST(EsxTest, AllocatesAnewEachFifteenSecondsAndWhenAThresholdIsCrossed) {
  Esx law;
  Snapshot snapshot = tight();
  const Bytes first = tick(law, snapshot).guests[0].target;
  snapshot.guests[0].stats->available = Bytes{0};
  for (int i = 0; i < 14; ++i) EXPECT_EQ(tick(law, snapshot).guests[0].target, first) << i;
  EXPECT_GT(tick(law, snapshot).guests[0].target, first);
  Esx other;
  Snapshot roomy = box(1000);
  tick(other, roomy);
  roomy.host.available = roomy.host.free = 50 * kMiB;
  EXPECT_LT(tick(other, roomy).guests[0].target, 4096 * kMiB) << "under 4 % free";
}

TEST(EsxTest, BelievesARiseSoonAndAFallLate) {
  Esx law;
  Snapshot snapshot = box(100);
  tick(law, snapshot);
  snapshot.guests[0].stats->available = Bytes{0};
  Plan plan;
  for (int i = 0; i < 46; ++i) plan = tick(law, snapshot);
  EXPECT_GT(mib(plan.guests[0].used), 2500) << "half of what rose counts after one period of 30 s";
  snapshot.guests[0].stats->available = 3072 * kMiB;
  for (int i = 0; i < 46; ++i) plan = tick(law, snapshot);
  EXPECT_GT(mib(plan.guests[0].used), 1300) << "and what fell is remembered longer";
}

TEST(EsxTest, StartsAGuestWhoseReservationIsUnreservedWhateverIsFree) {
  Esx law;
  Snapshot snapshot = box(100);  // 2 x 512 MiB of 7794 are reserved
  snapshot.reservations.push_back({.id = "r", .min = 6000 * kMiB, .max = 8000 * kMiB});
  snapshot.reservations.push_back({.id = "s", .min = 1000 * kMiB, .max = 1000 * kMiB});
  for (int i = 0; i < 3; ++i) {
    const Plan plan = tick(law, snapshot);
    EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
    EXPECT_EQ(plan.reservations[0].granted, 6000 * kMiB);
    EXPECT_EQ(plan.reservations[1].state, GrantState::denied);
  }
}

}  // namespace
}  // namespace balloon::policy::peers
