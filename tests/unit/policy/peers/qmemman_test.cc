// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/qmemman.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

using std::chrono::milliseconds;
constexpr double kPage = 0.01;

/// MiB in the law's unit.
constexpr double operator""_mib(unsigned long long mib) { return static_cast<double>(mib << 20); }
constexpr double operator""_mib(long double mib) { return static_cast<double>(mib) * (1 << 20); }

// ---- Arithmetic ----

class AlgoTest : public testing::Test {
 protected:
  void add(double used, double actual, double max = 4096_mib) {
    QmemmanDomain domain;
    domain.mem_used = used;
    domain.mem_current = domain.mem_actual = domain.last_target = actual;
    domain.mem_max = max;
    all_.push_back(domain);
  }
  std::vector<QmemmanDomain*> domains() {
    std::vector<QmemmanDomain*> pointers;
    for (QmemmanDomain& domain : all_) pointers.push_back(&domain);
    return pointers;
  }
  std::vector<QmemmanRequest> shared(double free) { return balance(settings_, free, domains()); }

  QmemmanSettings settings_;
  std::vector<QmemmanDomain> all_;
};

TEST_F(AlgoTest, PrefersThirtyPercentMoreThanUsedWithinBounds) {
  add(1000_mib, 0);
  add(100_mib, 0);
  add(2000_mib, 0, 2048_mib);
  EXPECT_NEAR(pref_mem(settings_, all_[0]), 1300_mib, 1);
  EXPECT_EQ(pref_mem(settings_, all_[1]), 200_mib);
  EXPECT_EQ(pref_mem(settings_, all_[2]), 2048_mib);
  all_[1].min_prefmem = 512_mib;
  EXPECT_EQ(pref_mem(settings_, all_[1]), 512_mib);
}

TEST_F(AlgoTest, SharesWhatIsLeftInProportion) {
  add(500_mib, 650_mib);
  add(1000_mib, 1300_mib);
  const auto requests = shared(1000_mib);
  ASSERT_EQ(requests.size(), 2);
  EXPECT_NEAR(requests[0].target, 0.999 * 983.3333_mib, 1000);
  EXPECT_NEAR(requests[1].target, 0.999 * 1966.6667_mib, 1000);
}

TEST_F(AlgoTest, SpreadsWhatAFullGuestCannotTake) {
  add(500_mib, 650_mib, 800_mib);
  add(1000_mib, 1300_mib);
  const auto requests = shared(1000_mib);
  EXPECT_EQ(requests[0].target, 800_mib);
  EXPECT_NEAR(requests[1].target, 1964.7_mib + 0.999 * 182.35_mib, 1000);
}

TEST_F(AlgoTest, PutsDonorsFirst) {
  add(1000_mib, 1000_mib);
  add(500_mib, 3000_mib);
  const auto requests = shared(0);
  ASSERT_EQ(requests.size(), 2);
  EXPECT_EQ(requests[0].guest, 1);
  EXPECT_LT(requests[0].target, 3000_mib);
  EXPECT_EQ(requests[1].guest, 0);
}

TEST_F(AlgoTest, PutsDonorsAtWhatTheyPreferWhenMemoryIsLow) {
  add(500_mib, 1500_mib);   // 850 too many
  add(1500_mib, 1000_mib);  // 950 too few
  const auto requests = shared(0);
  ASSERT_EQ(requests.size(), 2);
  EXPECT_NEAR(requests[0].target, 650_mib, 1);
  EXPECT_NEAR(requests[1].target, 0.999 * 1850_mib, 1000);
}

TEST_F(AlgoTest, AsPublishedLeavesAcceptorsToTheNextBalance) {
  settings_.credit_donations = false;
  add(500_mib, 1500_mib);
  add(1500_mib, 1000_mib);
  const auto requests = shared(0);
  ASSERT_EQ(requests.size(), 1);
  EXPECT_EQ(requests[0].guest, 0);
}

TEST_F(AlgoTest, DividesLittleAmongAcceptorsByWhatTheyPrefer) {
  add(1000_mib, 1000_mib);  // prefers 1300
  add(2000_mib, 2000_mib);  // prefers 2600
  const auto requests = shared(300_mib);
  ASSERT_EQ(requests.size(), 2);
  EXPECT_NEAR(requests[0].target, 0.999 * 1100_mib, 1000);
  EXPECT_NEAR(requests[1].target, 0.999 * 2200_mib, 1000);
}

TEST_F(AlgoTest, DoesNotAskForLessThanTenMegabytes) {
  add(500_mib, 655_mib);
  add(1500_mib, 1000_mib);
  const auto requests = shared(20_mib);
  ASSERT_EQ(requests.size(), 1);
  EXPECT_EQ(requests[0].guest, 1);
}

TEST_F(AlgoTest, LeavesOutGuestsThatReportNothingOrDoNotMove) {
  add(500_mib, 1500_mib);
  add(500_mib, 1500_mib);
  all_[0].mem_used.reset();
  all_[1].no_progress = true;
  EXPECT_TRUE(shared(1000_mib).empty());
}

TEST_F(AlgoTest, BorrowsFromDonorsInProportionAndFivePercentMore) {
  add(500_mib, 1250_mib);   // 600 too many
  add(1000_mib, 1500_mib);  // 200 too many
  const auto requests = balloon_down(settings_, 400_mib, domains());
  ASSERT_EQ(requests.size(), 2);
  EXPECT_NEAR(requests[0].target, 1250_mib - 315_mib, 1000);
  EXPECT_NEAR(requests[1].target, 1500_mib - 105_mib, 1000);
}

TEST_F(AlgoTest, BorrowsNothingWhenDonorsDoNotHaveIt) {
  add(500_mib, 1250_mib);
  EXPECT_TRUE(balloon_down(settings_, 601_mib, domains()).empty());
}

// ---- The loop ----

/// A host without use of its own with `free` MiB in no guest beside the boost for the control domain. Guest a
/// has 1500 MiB and uses 500 of it, guest b has 1000 and uses all.
Snapshot box(std::uint64_t free) {
  std::vector<GuestSnapshot> guests = {guest("a", 4096, 1500, 1000, 1000), guest("b", 4096, 1000, 0, 0)};
  return host(2500 + 350 + free, 1350 + free, std::move(guests));
}

/// A balloon moves: what it frees the host has at once, for what it takes the host's memory is not used yet.
void move(Snapshot& snapshot, std::size_t index, double size_mib) {
  GuestSnapshot& guest = snapshot.guests[index];
  const auto size = static_cast<Bytes>(size_mib * (1 << 20));
  const Bytes resident = std::min(guest.on_host.resident, size);
  snapshot.host.available += guest.on_host.resident - resident;
  guest.on_host.resident = resident;
  guest.actual = size;
}

Plan tick(Qmemman& law, Snapshot& snapshot) {
  const Plan plan = law.decide(snapshot);
  for (std::size_t i = 0; i < plan.guests.size(); ++i) snapshot.guests[i].target = plan.guests[i].target;
  snapshot.now += milliseconds(100);
  return plan;
}

/// New statistics of a guest: `available` MiB.
void report(Snapshot& snapshot, std::size_t index, std::uint64_t available_mib) {
  GuestStats& stats = *snapshot.guests[index].stats;
  stats.sampled_at = snapshot.now;
  stats.actual = snapshot.guests[index].actual;
  stats.available = available_mib * kMiB;
}

// With 50 MiB free, all of them kept, 2500 MiB are shared as 650 and 1300: 833.3 and 1666.7.
TEST(QmemmanTest, TakesFromDonorsAndGivesOnlyWhenTheyHaveGiven) {
  Qmemman law;
  Snapshot snapshot = box(50);
  Plan plan = tick(law, snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 832.5, kPage);
  EXPECT_EQ(plan.guests[1].target, 1000 * kMiB);
  plan = tick(law, snapshot);
  EXPECT_EQ(plan.guests[1].target, 1000 * kMiB) << "nothing is free yet";
  move(snapshot, 0, 832.5);
  plan = tick(law, snapshot);
  EXPECT_NEAR(mib(plan.guests[1].target), 1665, kPage);
}

TEST(QmemmanTest, MarksADonorThatDoesNotMoveAndGivesWhatThereIs) {
  Qmemman law;
  Snapshot snapshot = box(80);
  Plan plan;
  for (int i = 0; i < 5; ++i) {
    plan = tick(law, snapshot);
    EXPECT_EQ(plan.guests[0].state, GuestState::controlled) << i;
    EXPECT_EQ(plan.guests[1].target, 1000 * kMiB) << i;
  }
  plan = tick(law, snapshot);
  EXPECT_EQ(plan.guests[0].state, GuestState::stuck);
  EXPECT_EQ(plan.guests[1].target, 1030 * kMiB) << "80 are free, of which 50 stay so";
}

TEST(QmemmanTest, ClearsTheMarkWhenTheGuestHasMoved) {
  Qmemman law;
  Snapshot snapshot = box(50);
  for (int i = 0; i < 6; ++i) tick(law, snapshot);
  move(snapshot, 0, 832.5);
  report(snapshot, 0, 200);  // uses 632 now
  EXPECT_EQ(tick(law, snapshot).guests[0].state, GuestState::controlled);
}

TEST(QmemmanTest, ActsOnlyWhenAGuestReportsEnoughOfAChange) {
  Qmemman law;
  Snapshot snapshot = box(50);
  tick(law, snapshot);
  move(snapshot, 0, 832.5);
  tick(law, snapshot);
  move(snapshot, 1, 1665);
  report(snapshot, 1, 1665 - 1290);  // 1290 after 1000 of 1000: written
  Plan plan = tick(law, snapshot);
  const Bytes settled = plan.guests[1].target;
  report(snapshot, 1, 1665 - 1310);  // 20 more are less than 29.3
  plan = tick(law, snapshot);
  EXPECT_EQ(plan.guests[1].target, settled);
}

TEST(QmemmanTest, LeavesSmallTransfersAlone) {
  Qmemman law;
  std::vector<GuestSnapshot> guests = {guest("a", 4096, 1000, 300, 300), guest("b", 4096, 1000, 300, 300)};
  Snapshot snapshot = host(2000 + 350 + 50, 350 + 50 + 600, std::move(guests));
  Plan plan = tick(law, snapshot);
  EXPECT_EQ(plan.guests[0].target, 1000 * kMiB);
  report(snapshot, 0, 260);  // uses 740 and prefers 962: 13 of 2000 MiB would move each way
  plan = tick(law, snapshot);
  EXPECT_EQ(plan.guests[0].target, 1000 * kMiB);
}

TEST(QmemmanTest, CountsSwapAsUsed) {
  Qmemman law;
  Snapshot snapshot = box(50);
  snapshot.guests[1].stats->swap_out = Bytes{0};
  snapshot.guests[1].stats->swap_in = Bytes{0};
  tick(law, snapshot);
  snapshot.guests[1].stats->swap_out = 300 * kMiB;
  report(snapshot, 1, 0);
  EXPECT_NEAR(mib(tick(law, snapshot).guests[1].used), 1300, 1);
}

TEST(QmemmanTest, KeepsWhatItKnewOfAGuestThatReportsNothingMore) {
  Qmemman law;
  Snapshot snapshot = box(50);
  tick(law, snapshot);
  snapshot.guests[0].stats.reset();
  snapshot.now += std::chrono::hours(1);
  EXPECT_EQ(tick(law, snapshot).guests[0].used, 500 * kMiB);
}

TEST(QmemmanTest, LeavesAGuestThatNeverReportedAlone) {
  Qmemman law;
  Snapshot snapshot = box(50);
  snapshot.guests[0].stats->available.reset();
  const Plan plan = tick(law, snapshot);
  EXPECT_EQ(plan.guests[0].target, 1500 * kMiB);
}

// ---- A host with less than its guests' boot memory ----

/// Two guests at their boot memory of 4096 MiB, of which each uses `used`; there are 6000 in all.
Snapshot overcommitted(std::uint64_t used) {
  std::vector<GuestSnapshot> guests = {guest("a", 4096, 4096, 4096 - used, 4096 - used),
                                       guest("b", 4096, 4096, 4096 - used, 4096 - used)};
  return host(6000 + 350, 6350 - 2 * used, std::move(guests));
}

/// Balloons go to their targets at once.
void obey(Snapshot& snapshot) {
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) move(snapshot, i, mib(snapshot.guests[i].target));
}

TEST(QmemmanTest, BeginsWithGuestsThatFitIntoTheHostTogether) {
  Qmemman law;
  Snapshot snapshot = overcommitted(1000);
  Plan plan = tick(law, snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 1300, 1) << "what it prefers";
  obey(snapshot);
  plan = tick(law, snapshot);
  EXPECT_GT(mib(plan.guests[0].target), 2800) << "then all is shared";
  EXPECT_LE(mib(plan.guests[0].target) + mib(plan.guests[1].target), 5950);
}

TEST(QmemmanTest, BeginsWithLessThanGuestsPreferWhenThatDoesNotFit) {
  Qmemman law;
  Snapshot snapshot = overcommitted(2900);  // 3770 each
  const Plan plan = tick(law, snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 5950.0 / 2, 1);
  EXPECT_NEAR(mib(plan.guests[1].target), 5950.0 / 2, 1);
}

TEST(QmemmanTest, TakesNoGuestBelowItsMinimumWhateverIsMissing) {
  Qmemman law;
  Snapshot snapshot = overcommitted(3000);
  for (GuestSnapshot& guest : snapshot.guests) guest.limits.min = 2500 * kMiB;
  for (int i = 0; i < 300; ++i) {
    snapshot.host.available = i % 2 == 0 ? Bytes{0} : 350 * kMiB;  // the host's own use comes and goes
    if (i > 100) report(snapshot, 1, static_cast<std::uint64_t>(i % 40) * 30);
    const Plan plan = tick(law, snapshot);
    for (const GuestPlan& guest : plan.guests) ASSERT_GE(guest.target, 2500 * kMiB) << i;
    if (i == 150) obey(snapshot);
  }
}

TEST(QmemmanTest, CountsAGuestThatStartsAtItsInitialMemory) {
  Qmemman law;
  Snapshot snapshot = box(600);
  snapshot.guests.push_back(guest("c", 4096, 4096, 4000, 4000));
  snapshot.guests[2].controllable = false;
  snapshot.guests[2].stats.reset();
  Plan plan;
  for (int i = 0; i < 10; ++i) {
    plan = tick(law, snapshot);
    for (const std::size_t index : {0, 1}) move(snapshot, index, mib(snapshot.guests[index].target));
  }
  EXPECT_GT(mib(plan.guests[0].target) + mib(plan.guests[1].target), 2500) << "not at its boot memory";
}

// ---- Requests ----

Snapshot with_request(std::uint64_t free, std::uint64_t size) {
  Snapshot snapshot = box(free);
  snapshot.reservations.push_back({.id = "r", .min = size * kMiB, .max = 4096 * kMiB});
  return snapshot;
}

TEST(QmemmanTest, GrantsAtOnceWhatIsFree) {
  Qmemman law;
  Snapshot snapshot = with_request(1000, 975);
  const Plan plan = tick(law, snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
  EXPECT_EQ(plan.reservations[0].granted, 975 * kMiB);
}

TEST(QmemmanTest, AsksDonorsAndGrantsWhenEnoughIsFree) {
  Qmemman law;
  Snapshot snapshot = with_request(50, 400);
  Plan plan = tick(law, snapshot);
  EXPECT_NEAR(mib(plan.guests[0].target), 1500 - 420, kPage);
  EXPECT_EQ(plan.reservations[0].state, GrantState::pending);
  move(snapshot, 0, 1200);
  plan = tick(law, snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::pending) << "350 of 425 are free";
  move(snapshot, 0, 1110);
  plan = tick(law, snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
}

TEST(QmemmanTest, BalancesNothingUntilTheNewGuestHasStarted) {
  Qmemman law;
  Snapshot snapshot = with_request(3000, 900);
  tick(law, snapshot);
  for (int i = 0; i < 100; ++i) {
    report(snapshot, 1, i % 2 == 0 ? 0 : 300);
    EXPECT_EQ(tick(law, snapshot).guests[1].target, 1000 * kMiB);
  }
  snapshot.reservations.clear();
  EXPECT_GT(tick(law, snapshot).guests[1].target, 1000 * kMiB);
}

TEST(QmemmanTest, RefusesWhatDonorsDoNotHave) {
  Qmemman law;
  Snapshot snapshot = with_request(50, 2000);
  EXPECT_EQ(tick(law, snapshot).reservations[0].state, GrantState::denied);
  EXPECT_EQ(tick(law, snapshot).reservations[0].state, GrantState::denied);
  EXPECT_LT(snapshot.guests[0].target, 1500 * kMiB) << "it balances again";
}

TEST(QmemmanTest, RefusesWhenDonorsAreSlow) {
  Qmemman law;
  Snapshot snapshot = with_request(50, 400);
  // 5 MiB in 0.1 s: half of what it expects over three seconds.
  Plan plan;
  double size = 1500;
  for (int i = 0; i < 30; ++i) {
    plan = tick(law, snapshot);
    ASSERT_EQ(plan.reservations[0].state, GrantState::pending) << i;
    move(snapshot, 0, size -= 5);
  }
  plan = tick(law, snapshot);
  EXPECT_EQ(plan.reservations[0].state, GrantState::denied);
}

TEST(QmemmanTest, RefusesWhenTheOnlyDonorIsStuck) {
  Qmemman law;
  Snapshot snapshot = with_request(50, 400);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(tick(law, snapshot).reservations[0].state, GrantState::pending) << i;
  }
  EXPECT_EQ(tick(law, snapshot).reservations[0].state, GrantState::denied);
}

TEST(QmemmanTest, ServesOneRequestAtATime) {
  Qmemman law;
  Snapshot snapshot = with_request(1000, 500);
  snapshot.reservations.push_back({.id = "s", .min = 500 * kMiB, .max = 500 * kMiB});
  for (int i = 0; i < 3; ++i) {
    const Plan plan = tick(law, snapshot);
    EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
    EXPECT_EQ(plan.reservations[1].state, GrantState::pending) << "the first has not been taken yet";
  }
  snapshot.reservations.erase(snapshot.reservations.begin());
  EXPECT_EQ(tick(law, snapshot).reservations[0].state, GrantState::granted);
}

}  // namespace
}  // namespace balloon::policy::peers
