// SPDX-License-Identifier: Apache-2.0
// Reservations on a whole host: freed first, granted when free, denied when impossible.
#include "policy/reservations.h"

#include <gtest/gtest.h>

#include "fake_host.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

class ReservationsTest : public testing::Test {
 protected:
  /// Four guests that have all of 8 GiB, and use `used` each.
  void fill(Bytes used, std::uint32_t weight = 100) {
    for (int i = 0; i < 4; ++i) host_.add(2 * kGiB, used, {256 * kMiB, 2 * kGiB, weight});
    step();
  }
  void ask(std::string id, Bytes min, Bytes max, seconds in, std::uint32_t priority = 100) {
    host_.reservations.push_back({std::move(id), min, max, priority, host_.now + in});
  }
  const Plan& step(int times = 1) {
    for (int i = 0; i < times; ++i) {
      plan_ = host_.step(engine_);
      Bytes kept{};
      for (const auto& reservation : plan_.reservations) kept += reservation.granted;
      if (plan_.state == HostState::normal || plan_.state == HostState::tight) {
        EXPECT_LE(host_.committed() + kept, std::max(plan_.budget, before_ + kept))
            << "nothing is promised twice";
      }
      before_ = host_.committed();
    }
    return plan_;
  }
  const ReservationPlan& of(std::size_t i) { return plan_.reservations.at(i); }
  /// Seconds until the reservation is no longer pending.
  int wait(std::size_t i = 0) {
    int waited = 0;
    do step();
    while (of(i).state == GrantState::pending && ++waited < 300);
    return waited;
  }

  FakeHost host_{8 * kGiB};
  Engine engine_{{}};
  Plan plan_;
  Bytes before_ = Bytes::max() / 2;
};

TEST_F(ReservationsTest, AreGrantedAtOnceFromWhatIsFree) {
  fill(150 * kMiB);
  step(60);
  ask("a", kGiB, kGiB, seconds(30));
  EXPECT_EQ(wait(), 0);
  EXPECT_EQ(of(0).state, GrantState::granted);
  EXPECT_EQ(of(0).granted, kGiB);
}

TEST_F(ReservationsTest, AreFreedFirstAndGrantedOnlyThen) {
  host_ = FakeHost(8 * kGiB, kGiB);
  fill(900 * kMiB);
  ask("a", 2 * kGiB, 2 * kGiB, seconds(60));
  step();
  EXPECT_EQ(of(0).state, GrantState::pending) << "guests have it still";
  const int waited = wait();
  EXPECT_EQ(of(0).state, GrantState::granted);
  EXPECT_LE(waited, 8);
  EXPECT_GE(plan_.budget, host_.committed() + 2 * kGiB);
}

TEST_F(ReservationsTest, StayGrantedAndAreNotTouchedByAGuestInNeed) {
  fill(150 * kMiB);
  step(60);
  ask("a", 4 * kGiB, 4 * kGiB, seconds(30));
  wait();
  for (auto& guest : host_.guests) guest.used = 1900 * kMiB;
  for (int i = 0; i < 60; ++i) {
    step();
    ASSERT_EQ(of(0).state, GrantState::granted);
    ASSERT_EQ(of(0).granted, 4 * kGiB);
    ASSERT_LE(host_.committed() + 4 * kGiB, plan_.budget);
  }
}

TEST_F(ReservationsTest, AWishOfAnIdThatWasReleasedHasNothingOfTheOneBefore) {
  fill(150 * kMiB);
  step(60);
  ask("a", kGiB, kGiB, seconds(30));
  wait();
  ASSERT_EQ(of(0).state, GrantState::granted);
  host_.reservations.clear();
  ask("a", 2 * kGiB, 2 * kGiB, seconds(30));
  step();
  EXPECT_EQ(of(0).state, GrantState::granted) << "in the decision that sees it first";
  EXPECT_EQ(of(0).granted, 2 * kGiB);
}

TEST_F(ReservationsTest, AGrantIsNotTakenOverByAGuestThatIsTooSmallForIt) {
  fill(150 * kMiB);
  step(60);
  ask("z", kGiB, kGiB, seconds(30));
  wait();
  FakeGuest& small = host_.add(64 * kMiB, 32 * kMiB, {Bytes{0}, 64 * kMiB});
  small.seen.name = "z";
  step();
  EXPECT_EQ(of(0).granted, kGiB) << "all of it is kept still";
}

TEST_F(ReservationsTest, AreDeniedAtOnceWhenMinimumsForbidThem) {
  for (int i = 0; i < 4; ++i) host_.add(2 * kGiB, 300 * kMiB, {1536 * kMiB, 2 * kGiB, 100});
  ask("a", 4 * kGiB, 4 * kGiB, seconds(3600));
  step();
  EXPECT_EQ(of(0).state, GrantState::denied);
}

TEST_F(ReservationsTest, AreDeniedWhenBalloonsAreTooSlowForTheirDeadline) {
  host_ = FakeHost(8 * kGiB, kGiB);
  fill(300 * kMiB);
  for (auto& guest : host_.guests) guest.speed = 4 * kMiB;
  step(8);  // so slow have they proved to be
  ask("a", 4 * kGiB, 4 * kGiB, seconds(5));
  EXPECT_EQ(wait(), 0);
  EXPECT_EQ(of(0).state, GrantState::denied);
}

TEST_F(ReservationsTest, TakeNothingThatProgramsOfEqualWeightUse) {
  fill(1700 * kMiB);
  step(30);
  ask("a", 4 * kGiB, 4 * kGiB, seconds(20));
  wait();
  EXPECT_EQ(of(0).state, GrantState::denied) << "at its deadline, for want of idle memory";
  for (const auto& guest : host_.guests) EXPECT_GT(guest.seen.actual, 1700 * kMiB);
}

TEST_F(ReservationsTest, TakeItFromThoseOfLessWeight) {
  fill(1700 * kMiB);
  step(30);
  ask("a", 4 * kGiB, 4 * kGiB, seconds(60), 1000);
  wait();
  EXPECT_EQ(of(0).state, GrantState::granted);
}

TEST_F(ReservationsTest, TakeWhatThereIsOfTheirRangeAtTheDeadline) {
  fill(1200 * kMiB);
  step(30);
  ask("a", kGiB, 6 * kGiB, seconds(20));
  wait();
  EXPECT_EQ(of(0).state, GrantState::granted);
  EXPECT_GE(of(0).granted, kGiB);
  EXPECT_LT(of(0).granted, 6 * kGiB);
}

TEST_F(ReservationsTest, AreNotGrantedTheSameMemoryTwice) {
  fill(150 * kMiB);
  step(60);
  ask("a", 4 * kGiB, 4 * kGiB, seconds(30));
  ask("b", 4 * kGiB, 4 * kGiB, seconds(30));
  step(40);
  EXPECT_EQ(of(0).state, GrantState::granted);
  EXPECT_EQ(of(1).state, GrantState::denied);
}

TEST_F(ReservationsTest, ThatWereGrantedBeforeAreKeptFromTheFirstDecisionOnAndBeforeAnyGuest) {
  ask("before", 3 * kGiB, 3 * kGiB, seconds(0));
  host_.reservations[0].granted = 3 * kGiB;
  ask("new", 6 * kGiB, 6 * kGiB, seconds(3600));
  step();
  EXPECT_EQ(of(0).state, GrantState::granted);
  EXPECT_EQ(of(0).granted, 3 * kGiB);
  EXPECT_EQ(of(1).state, GrantState::denied) << "the host cannot hold both";
  host_.reservations.pop_back();
  before_ = Bytes::max() / 2;  // guests come with all their memory
  fill(1900 * kMiB);
  for (int i = 0; i < 30; ++i) {
    step();
    ASSERT_EQ(of(0).state, GrantState::granted) << "whatever guests need";
    ASSERT_EQ(of(0).granted, 3 * kGiB);
  }
}

TEST_F(ReservationsTest, GiveTheirMemoryBackWhenTheyGo) {
  fill(150 * kMiB);
  step(60);
  ask("a", 5 * kGiB, 5 * kGiB, seconds(30));
  wait();
  ASSERT_EQ(of(0).state, GrantState::granted);
  host_.reservations.clear();
  ask("b", 5 * kGiB, 5 * kGiB, seconds(30));
  wait();
  EXPECT_EQ(of(0).state, GrantState::granted);
}

TEST_F(ReservationsTest, AGuestThatBootsGrowsIntoWhatIsKeptForIt) {
  fill(150 * kMiB);
  step(60);
  ask("new", kGiB, kGiB, seconds(30));
  wait();
  ASSERT_EQ(of(0).granted, kGiB);
  FakeGuest& guest = host_.add(kGiB, 100 * kMiB, {256 * kMiB, kGiB, 100});
  guest.seen.name = "new";
  guest.seen.controllable = false;
  guest.answers = false;
  Bytes kept = kGiB;
  for (const Bytes used : {100 * kMiB, 400 * kMiB, 900 * kMiB}) {
    host_.guests.back().used = used;
    step(2);
    ASSERT_EQ(of(0).state, GrantState::granted);
    EXPECT_LT(of(0).granted, kept) << "what it is counted at is not kept for it, too";
    EXPECT_GE(of(0).granted + plan_.guests.back().share, kGiB) << "together it is what was granted";
    kept = of(0).granted;
  }
}

}  // namespace
}  // namespace balloon::policy
