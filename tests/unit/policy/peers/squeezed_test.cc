// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/squeezed.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

using std::chrono::seconds;

/// MiB. The formula takes 8 KiB a guest off what it can free, and targets are whole pages.
constexpr double kNear = 0.1;

/// Guests of 2048 MiB, minimum 512, all of whose memory is resident, on a host that itself uses 1000 MiB and
/// has `free` MiB in no guest.
Snapshot box(std::uint64_t free, std::vector<std::uint64_t> sizes) {
  std::vector<GuestSnapshot> guests;
  std::uint64_t held = 0;
  for (const std::uint64_t size : sizes) {
    guests.push_back(guest(std::string(1, static_cast<char>('a' + guests.size())), 2048, size, 0, 0));
    held += size;
  }
  return host(1000 + free + held, free, std::move(guests));
}

/// A law that has seen `snapshot`, and the snapshot at the time of its first check.
Snapshot after_ten_seconds(Squeezed& law, Snapshot snapshot) {
  law.decide(snapshot);
  snapshot.now += seconds(10);
  return snapshot;
}

/// Balloons that are where they were asked to be at once.
void follow(const Plan& plan, Snapshot& snapshot) {
  for (std::size_t i = 0; i < plan.guests.size(); ++i) {
    GuestSnapshot& guest = snapshot.guests[i];
    snapshot.host.available += guest.actual;
    guest.actual = guest.target = plan.guests[i].target;
    guest.on_host.resident = guest.actual;
    snapshot.host.available -= guest.actual;
  }
  snapshot.now += seconds(1);
}

TEST(SqueezedTest, BalancesEveryTenSeconds) {
  Squeezed law;
  Snapshot snapshot = box(1072, {1000, 1000});
  EXPECT_EQ(law.decide(snapshot).guests[0].target, 1000 * kMiB);
  snapshot.now += seconds(9);
  EXPECT_EQ(law.decide(snapshot).guests[0].target, 1000 * kMiB);
  snapshot.now += seconds(1);
  // Beyond their minimums: 1072 - 72 kept free, and 2 * 488 that they have. Half of it each.
  const Plan plan = law.decide(snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 512 + 988, kNear);
  EXPECT_NEAR(mib(plan.guests[1].target), 512 + 988, kNear);
}

TEST(SqueezedTest, PutsAllAtTheSamePartOfTheirRanges) {
  Squeezed law;
  Snapshot snapshot = box(772, {1000, 1000});
  snapshot.guests[1].limits.min = 1000 * kMiB;
  snapshot.guests[1].limits.max = 1512 * kMiB;
  // 700 + 488 for ranges of 1536 and 512: 58 % of each.
  const Plan plan = law.decide(after_ten_seconds(law, snapshot));
  EXPECT_NEAR(mib(plan.guests[0].target), 512 + 0.58008 * 1536, kNear);
  EXPECT_NEAR(mib(plan.guests[1].target), 1000 + 0.58008 * 512, kNear);
}

TEST(SqueezedTest, PutsAllAtTheirMinimumsWhenThereIsNotEvenThat) {
  Squeezed law;
  Snapshot overfull = box(0, {2000, 2000});
  overfull.host.total -= 3500 * kMiB;  // guests hold more than there is
  overfull.host.available = Bytes{0};
  overfull.guests[0].on_host.resident = overfull.guests[1].on_host.resident = 250 * kMiB;
  const Plan plan = law.decide(after_ten_seconds(law, overfull));
  EXPECT_EQ(plan.guests[0].target, 512 * kMiB);
  EXPECT_EQ(plan.guests[1].target, 512 * kMiB);
}

TEST(SqueezedTest, GivesOnlyWhenAllWhoMustFreeHaveFreed) {
  Squeezed law;
  Snapshot snapshot = after_ten_seconds(law, box(572, {1900, 600}));
  Plan plan = law.decide(snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 1500, kNear);
  EXPECT_EQ(plan.guests[1].target, 600 * kMiB) << "the first has not freed anything yet";
  follow(plan, snapshot);
  plan = law.decide(snapshot);
  EXPECT_NEAR(mib(plan.guests[1].target), 1500, kNear);
}

TEST(SqueezedTest, DoesNotLookAtWhatGuestsUse) {
  Squeezed law;
  Snapshot snapshot = box(1072, {1000, 1000});
  snapshot.guests[0].stats->available = 900 * kMiB;
  const Plan plan = law.decide(after_ten_seconds(law, snapshot));
  EXPECT_EQ(plan.guests[0].target, plan.guests[1].target);
}

TEST(SqueezedTest, LeavesABalancedHostAlone) {
  Squeezed law;
  Snapshot snapshot = after_ten_seconds(law, box(1072, {1000, 1000}));
  for (int i = 0; i < 5; ++i) follow(law.decide(snapshot), snapshot);
  const Bytes settled = snapshot.guests[0].target;
  for (int i = 0; i < 60; ++i) {
    const Plan plan = law.decide(snapshot);
    EXPECT_EQ(plan.guests[0].target, settled);
    follow(plan, snapshot);
  }
}

TEST(SqueezedTest, LeavesSmallChangesOfTheHostsOwnUseAlone) {
  Squeezed law;
  Snapshot snapshot = after_ten_seconds(law, box(1072, {1000, 1000}));
  for (int i = 0; i < 5; ++i) follow(law.decide(snapshot), snapshot);
  const Bytes settled = snapshot.guests[0].target;
  snapshot.host.available -= 10 * kMiB;
  for (int i = 0; i < 30; ++i) follow(law.decide(snapshot), snapshot);
  EXPECT_EQ(snapshot.guests[0].target, settled);
  snapshot.host.available -= 20 * kMiB;
  for (int i = 0; i < 30; ++i) follow(law.decide(snapshot), snapshot);
  EXPECT_NEAR(mib(settled - snapshot.guests[0].target), 15, kNear);
}

TEST(SqueezedTest, WorksAroundADriverThatDoesNotMoveForFiveSeconds) {
  Squeezed law;
  Snapshot snapshot = after_ten_seconds(law, box(572, {1900, 600}));
  Plan plan = law.decide(snapshot);
  snapshot.guests[0].target = plan.guests[0].target;
  for (int i = 0; i < 5; ++i) {
    snapshot.now += seconds(1);
    plan = law.decide(snapshot);
    EXPECT_EQ(plan.guests[1].target, 600 * kMiB) << i;
  }
  snapshot.now += seconds(1);
  plan = law.decide(snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 1500, kNear) << "it may still free, but not take";
  EXPECT_NEAR(mib(plan.guests[1].target), 512 + 500 + 88, kNear) << "there is what was free";
}

TEST(SqueezedTest, TakesAPageInFiveSecondsForProgress) {
  Squeezed law;
  Snapshot snapshot = after_ten_seconds(law, box(572, {1900, 600}));
  snapshot.guests[0].target = law.decide(snapshot).guests[0].target;
  for (int i = 1; i <= 60; ++i) {
    snapshot.now += seconds(1);
    if (i % 5 == 0) snapshot.guests[0].actual -= Bytes{4096};
    EXPECT_EQ(law.decide(snapshot).guests[1].target, 600 * kMiB) << "waits for the first for ever";
  }
}

TEST(SqueezedTest, FlagsAGuestOffItsTargetForTwentySeconds) {
  Squeezed law;
  Snapshot snapshot = box(572, {1900, 600});
  snapshot.guests[0].target = 1500 * kMiB;
  EXPECT_EQ(law.decide(snapshot).guests[0].state, GuestState::controlled);
  snapshot.now += seconds(20);
  EXPECT_EQ(law.decide(snapshot).guests[0].state, GuestState::controlled);
  snapshot.now += seconds(1);
  EXPECT_EQ(law.decide(snapshot).guests[0].state, GuestState::stuck);
}

// ---- Reservations ----

Snapshot with_reservation(Snapshot snapshot, std::uint64_t min, std::uint64_t max) {
  snapshot.reservations.push_back({.id = "r", .min = min * kMiB, .max = max * kMiB});
  return snapshot;
}

TEST(SqueezedTest, GrantsAtOnceWhatIsFree) {
  Squeezed law;
  // As a guest of [512, 2048] it would have 512 and a quarter of 4000 + 2 * 488 and more: all of its range.
  const Plan plan = law.decide(with_reservation(box(4072, {1000, 1000}), 512, 2048));
  EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
  EXPECT_EQ(plan.reservations[0].granted, 2048 * kMiB);
}

TEST(SqueezedTest, GrantsTheSharePlannedForAGuestToBeOnceItIsFree) {
  Squeezed law;
  Snapshot snapshot = with_reservation(box(72, {1500, 1500}), 512, 2048);
  // 2 * 988 MiB for three ranges of 1536: 42.9 %, so 1170.7 MiB for it, and 914.7 for each of the others.
  Plan plan = law.decide(snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::pending);
  EXPECT_NEAR(mib(plan.guests[0].target), 914.7, kNear);
  EXPECT_NEAR(mib(plan.guests[1].target), 914.7, kNear);
  follow(plan, snapshot);
  plan = law.decide(snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
  EXPECT_NEAR(mib(plan.reservations[0].granted), 1170.7, kNear);
}

TEST(SqueezedTest, KeepsWhatItGranted) {
  Squeezed law;
  Snapshot snapshot = with_reservation(box(72, {1500, 1500}), 512, 2048);
  for (int i = 0; i < 60; ++i) follow(law.decide(snapshot), snapshot);
  EXPECT_NEAR(mib(snapshot.guests[0].target), 914.7, kNear);
  snapshot.reservations.clear();
  for (int i = 0; i < 60; ++i) follow(law.decide(snapshot), snapshot);
  EXPECT_NEAR(mib(snapshot.guests[0].target), 1500, kNear);
}

TEST(SqueezedTest, DeniesWhatAllMinimumsTogetherDoNotAllow) {
  Squeezed law;
  Snapshot snapshot = with_reservation(box(72, {1500, 1500}), 2000, 2000);
  Plan plan;
  for (int i = 0; i < 5; ++i) follow(plan = law.decide(snapshot), snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::denied);
  EXPECT_EQ(plan.reservations[0].granted, Bytes{0});
}

TEST(SqueezedTest, DeniesWhatAStuckGuestWithholds) {
  Squeezed law;
  Snapshot snapshot = with_reservation(box(72, {1500}), 512, 1024);
  Plan plan;
  for (int i = 0; i < 10; ++i) {
    plan = law.decide(snapshot);
    snapshot.guests[0].target = plan.guests[0].target;  // and its size stays
    snapshot.now += seconds(1);
  }
  EXPECT_EQ(plan.reservations[0].state, GrantState::denied);
}

TEST(SqueezedTest, ServesOneAfterTheOther) {
  Squeezed law;
  Snapshot snapshot = with_reservation(box(72, {1500, 1500}), 512, 512);
  snapshot.reservations.push_back({.id = "s", .min = 512 * kMiB, .max = 512 * kMiB});
  Plan plan = law.decide(snapshot);
  follow(plan, snapshot);
  plan = law.decide(snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
  EXPECT_EQ(plan.reservations[1].state, GrantState::pending);
  for (int i = 0; i < 3; ++i) follow(plan = law.decide(snapshot), snapshot);
  EXPECT_EQ(plan.reservations[1].state, GrantState::granted);
  EXPECT_LE(plan.reservations[0].granted + plan.reservations[1].granted + snapshot.guests[0].actual +
                snapshot.guests[1].actual,
            (72 + 3000) * kMiB);
}

}  // namespace
}  // namespace balloon::policy::peers
