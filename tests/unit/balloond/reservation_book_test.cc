#include "balloond/control/reservation_book.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using policy::GrantState;
using test::kGiB;
using namespace std::chrono_literals;
using Kind = ReservationOutcome::Kind;

/// A book whose decisions are the test's.
class ReservationBookTest : public ::testing::Test {
 protected:
  struct Heard {
    std::optional<ReservationOutcome> outcome;
  };
  static ReservationRequest wish(const std::string& id = "b", Bytes min = kGiB) {
    return {.id = id, .min = min, .max = min, .priority = 100, .within = 30s, .lease = 60s};
  }
  bool ask(Heard& heard, const ReservationRequest& request = wish()) {
    return book_
        .ask(request, &heard, [&heard](const ReservationOutcome& outcome) { heard.outcome = outcome; })
        .has_value();
  }
  bool release(const std::string& id) {
    return book_.release(id, [](const ReservationOutcome&) {});
  }
  /// One decision in which each reservation gets `state`; how many there were.
  std::size_t decide(GrantState state, Bytes granted = 0) {
    policy::Snapshot seen;
    seen.guests = guests_;
    seen.reservations = book_.for_decision(seen.guests);
    policy::Plan plan;
    plan.budget = 8 * kGiB;
    for (const auto& each : seen.reservations) plan.reservations.push_back({each.id, state, granted});
    book_.settle(seen, plan);
    return seen.reservations.size();
  }
  void guest(const std::string& name, bool with_driver) {
    policy::GuestSnapshot guest;
    guest.name = name;
    guest.controllable = with_driver;
    guests_ = {guest};
  }

  test::FakeClock clock_;
  std::vector<policy::GuestSnapshot> guests_;
  ReservationBook book_{clock_};
};

TEST_F(ReservationBookTest, WhatIsAskedForComesToTheDecisionAndItsAnswerBack) {
  Heard heard;
  ASSERT_TRUE(ask(heard));
  const auto wishes = book_.for_decision({});
  ASSERT_EQ(wishes.size(), 1U);
  EXPECT_EQ(wishes[0].min, kGiB);
  EXPECT_EQ(wishes[0].deadline, clock_.now() + 30s);
  EXPECT_EQ(decide(GrantState::pending, kGiB / 2), 1U);
  EXPECT_FALSE(heard.outcome) << "half of it is no answer";
  EXPECT_EQ(book_.list().at(0).granted, kGiB / 2);
  decide(GrantState::granted, kGiB);
  ASSERT_TRUE(heard.outcome);
  EXPECT_EQ(heard.outcome->kind, Kind::granted);
  EXPECT_EQ(heard.outcome->record.granted, kGiB);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 1U) << "it is kept";
}

TEST_F(ReservationBookTest, DeniedAtTheFirstLookIsRefusedAndLaterIsExpired) {
  Heard first;
  Heard second;
  ask(first);
  decide(GrantState::denied);
  EXPECT_EQ(first.outcome->kind, Kind::refused);
  EXPECT_EQ(first.outcome->reason, "1 GiB cannot be freed within 30 s");
  decide(GrantState::denied);
  ask(second);
  decide(GrantState::pending);
  decide(GrantState::denied);
  EXPECT_EQ(second.outcome->kind, Kind::expired);
  EXPECT_TRUE(book_.list().empty());
}

TEST_F(ReservationBookTest, AGrantEndsWithItsLeaseWhichAnotherCallBeginsAnew) {
  Heard heard;
  ask(heard);
  decide(GrantState::granted, kGiB);
  clock_.advance(50s);
  Heard again;
  ask(again);
  ASSERT_TRUE(again.outcome) << "it is granted already";
  EXPECT_EQ(again.outcome->kind, Kind::granted);
  clock_.advance(50s);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 1U);
  clock_.advance(11s);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 0U);
  EXPECT_TRUE(book_.list().empty());
}

TEST_F(ReservationBookTest, AGrantEndsWhenItsGuestHasItsDriverUp) {
  Heard heard;
  ask(heard);
  decide(GrantState::granted, kGiB);
  guest("b", false);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 1U) << "it boots, and grows into it";
  guest("b", true);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 0U);
}

TEST_F(ReservationBookTest, ItCountsHowReservationsEndAndWhatOfGrantsIsUsed) {
  const auto ended = [&](Kind kind) {
    return book_.counters().ended.at(static_cast<std::size_t>(kind) - 1).load();
  };
  Heard used, unused, never;
  ask(used);
  decide(GrantState::granted, kGiB);
  clock_.advance(5s);
  EXPECT_EQ(clock_.now() - book_.list().front().since, 5s) << "since it was granted";
  guest("b", true);
  decide(GrantState::granted, kGiB);
  EXPECT_EQ(ended(Kind::joined), 1U);
  EXPECT_EQ(book_.counters().used_bytes, kGiB);
  guests_.clear();
  ask(unused, wish("c"));
  decide(GrantState::granted, kGiB);
  clock_.advance(61s);
  decide(GrantState::granted, kGiB);
  EXPECT_EQ(ended(Kind::lapsed), 1U);
  ask(never, wish("d"));
  decide(GrantState::denied);
  EXPECT_EQ(ended(Kind::refused), 1U);
  EXPECT_EQ(book_.counters().granted, 2U);
  EXPECT_EQ(book_.counters().granted_bytes, 2 * kGiB);
  EXPECT_EQ(book_.counters().used_bytes, kGiB);
}

TEST_F(ReservationBookTest, AGuestThatComesBeforeItsMemoryEndsTheWait) {
  Heard heard;
  ask(heard);
  decide(GrantState::pending);
  guest("b", false);
  EXPECT_EQ(decide(GrantState::pending), 0U);
  ASSERT_TRUE(heard.outcome);
  EXPECT_EQ(heard.outcome->kind, Kind::joined);
}

TEST_F(ReservationBookTest, ANewWishDoesNotInheritWhatAnEndedOneOfThatIdHad) {
  Heard heard;
  ask(heard);
  decide(GrantState::granted, kGiB);
  EXPECT_TRUE(release("b"));
  EXPECT_FALSE(release("b"));
  Heard larger;
  ask(larger, wish("b", 2 * kGiB));
  EXPECT_EQ(decide(GrantState::granted, kGiB), 0U) << "first the engine forgets the one before";
  EXPECT_FALSE(larger.outcome);
  EXPECT_EQ(decide(GrantState::granted, 2 * kGiB), 1U);
  EXPECT_EQ(larger.outcome->record.granted, 2 * kGiB);
}

TEST_F(ReservationBookTest, WhatIsReleasedBetweenTheDecisionAndItsResultIsNotGranted) {
  Heard heard;
  ask(heard);
  policy::Snapshot seen;
  seen.reservations = book_.for_decision({});
  release("b");
  EXPECT_EQ(heard.outcome->kind, Kind::released);
  Heard larger;
  ask(larger, wish("b", 2 * kGiB));
  policy::Plan plan;
  plan.reservations.push_back({"b", GrantState::granted, kGiB});
  book_.settle(seen, plan);
  EXPECT_FALSE(larger.outcome) << "that was decided for the one before";
}

TEST_F(ReservationBookTest, OneThatNobodyWaitsForEndsUnlessItIsGranted) {
  Heard one;
  Heard two;
  ask(one);
  ask(two);
  book_.withdraw(&one);
  EXPECT_EQ(book_.list().size(), 1U);
  book_.withdraw(&two);
  EXPECT_TRUE(book_.list().empty());
  Heard granted;
  ask(granted);
  decide(GrantState::granted, kGiB);  // forgets the one before
  decide(GrantState::granted, kGiB);
  book_.withdraw(&granted);
  EXPECT_EQ(book_.list().size(), 1U) << "its lease decides";
}

TEST_F(ReservationBookTest, TheSameIdWithOtherSizesAndTooManyAreRefused) {
  std::list<Heard> heard(ReservationBook::kMost + 1);
  std::size_t number = 0;
  for (Heard& each : heard) {
    EXPECT_EQ(ask(each, wish(std::to_string(number))), number < ReservationBook::kMost);
    ++number;
  }
  Heard other;
  EXPECT_FALSE(ask(other, wish("7", 2 * kGiB)));
}

}  // namespace
}  // namespace balloon::daemon
