// SPDX-License-Identifier: Apache-2.0
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
using Refusal = ReservationRefusal::Kind;

/// A book whose decisions are the test's.
class ReservationBookTest : public ::testing::Test {
 protected:
  struct Heard {
    std::optional<ReservationOutcome> outcome;
  };
  static ReservationRequest wish(const std::string& id = "b", Bytes min = kGiB) {
    return {.id = id, .min = min, .max = min, .priority = 100, .within = 30s, .lease = 60s};
  }
  static ReservationBook::Tell into(Heard& heard) {
    return [&heard](const ReservationOutcome& outcome) { heard.outcome = outcome; };
  }
  /// Why not; nothing: it was taken.
  std::optional<Refusal> ask(Heard& heard, const ReservationRequest& request = wish()) {
    const auto asked = book_.ask(request, &heard, into(heard));
    return asked ? std::nullopt : std::optional(asked.error().kind);
  }
  bool release(const std::string& id) {
    return book_.release(id, {.force = true}, into(ignored_)).has_value();
  }
  /// A grant that is kept, by a request of that name.
  ReservationRecord grant(const std::string& request_id = "r-1", const std::string& id = "b") {
    Heard heard;
    EXPECT_EQ(ask(heard, named(request_id, id)), std::nullopt);
    decide(GrantState::granted, kGiB);
    EXPECT_TRUE(heard.outcome);
    return heard.outcome ? heard.outcome->record : ReservationRecord{};
  }
  static ReservationRequest named(const std::string& request_id, const std::string& id = "b", uid_t uid = 7) {
    ReservationRequest request = wish(id);
    request.request_id = request_id;
    request.owner = "nova";
    request.uid = uid;
    return request;
  }
  static std::optional<Refusal> why(const ReservationBook::Answer<void>& answer) {
    return answer ? std::nullopt : std::optional(answer.error().kind);
  }
  /// One decision in which each reservation gets `state`; how many there were.
  std::size_t decide(GrantState state, Bytes granted = {}) {
    policy::Snapshot seen;
    seen.guests = guests_;
    seen.reservations = book_.for_decision(seen.guests);
    policy::Plan plan;
    plan.budget = 8 * kGiB;
    for (const auto& each : seen.reservations) plan.reservations.push_back({each.id, state, granted});
    book_.settle(seen, plan);
    return seen.reservations.size();
  }
  void guest(const std::string& name, bool with_driver, Bytes memory = kGiB) {
    policy::GuestSnapshot guest;
    guest.name = name;
    guest.memory = memory;
    guest.controllable = with_driver;
    guests_ = {guest};
  }

  test::FakeClock clock_;
  std::vector<policy::GuestSnapshot> guests_;
  ReservationBook book_{clock_};
  Heard ignored_;
};

TEST_F(ReservationBookTest, WhatIsAskedForComesToTheDecisionAndItsAnswerBack) {
  Heard heard;
  ASSERT_EQ(ask(heard), std::nullopt);
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

TEST_F(ReservationBookTest, WithItsBootMemoryTheHostsWouldBeMoreThanPolicyAdmits) {
  guest("a", true, 6 * kGiB);
  Heard first;
  Heard second;
  ASSERT_EQ(ask(first, wish("b", 2 * kGiB)), std::nullopt);
  EXPECT_EQ(book_.for_decision(guests_, 8 * kGiB).size(), 1U) << "2 GiB at most, with the guest's 6";
  EXPECT_EQ(book_.boot_memory_free(), Bytes{0});
  ASSERT_EQ(ask(second, wish("c", 2 * kGiB)), std::nullopt);
  EXPECT_EQ(book_.for_decision(guests_, 8 * kGiB).size(), 1U);
  ASSERT_TRUE(second.outcome);
  EXPECT_EQ(second.outcome->kind, Kind::refused);
  EXPECT_EQ(second.outcome->reason,
            "it is for a guest of 2 GiB, and of the 8 GiB of boot memory that policy admits "
            "(admission.ram_allocation_ratio) 8 GiB are taken");
  EXPECT_EQ(book_.for_decision(guests_, kGiB).size(), 1U) << "what was admitted stays";
  EXPECT_FALSE(first.outcome);
  decide(GrantState::granted, kGiB);
  guests_.push_back(guests_.front());
  guests_.back().name = "b";
  guests_.back().memory = 2 * kGiB;
  guests_.back().controllable = false;
  EXPECT_EQ(book_.for_decision(guests_, 9 * kGiB).size(), 1U);
  EXPECT_EQ(book_.boot_memory_free(), kGiB) << "its guest boots, and counts once";
  EXPECT_TRUE(book_.for_decision(guests_).size() == 1 && !book_.boot_memory_free()) << "without a ratio";
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

TEST_F(ReservationBookTest, WhyItIsDeniedIsSaidByWhatIsKeptForOthers) {
  const auto denied = [this](Bytes others, Bytes min) {
    Heard heard;
    ask(ignored_, wish("a", kGiB));
    ask(heard, wish("b", min));
    policy::Snapshot seen;
    seen.guests.emplace_back().limits.min = kGiB;
    seen.reservations = book_.for_decision({});
    policy::Plan plan;
    plan.budget = 8 * kGiB;
    plan.reservations = {{"a", GrantState::pending, others}, {"b", GrantState::denied, Bytes{0}}};
    book_.settle(seen, plan);
    EXPECT_TRUE(heard.outcome);
    EXPECT_TRUE(release("a"));
    return heard.outcome ? heard.outcome->reason : "";
  };
  EXPECT_EQ(denied(2 * kGiB, 6 * kGiB),
            "the host cannot hold 6 GiB: of the 8 GiB that guests may have, 3 GiB are guaranteed to others");
  EXPECT_EQ(denied(2 * kGiB, 5 * kGiB), "5 GiB cannot be freed within 30 s");
  EXPECT_EQ(denied(7 * kGiB, Bytes{0}), "0 B cannot be freed within 30 s");
  EXPECT_EQ(denied(8 * kGiB, Bytes{0}),
            "the host cannot hold 0 B: of the 8 GiB that guests may have, 9 GiB are guaranteed to others");
}

TEST_F(ReservationBookTest, WhatHasEndedIsForgottenAfterAnHour) {
  grant();
  ASSERT_TRUE(release("b"));
  clock_.advance(1h);
  book_.for_decision({});
  EXPECT_TRUE(book_.find_ended("b"));
  clock_.advance(1ns);
  book_.for_decision({});
  EXPECT_FALSE(book_.find_ended("b"));
}

TEST_F(ReservationBookTest, WhoDecidesIsToldOfEachWishAndEachEnd) {
  int told = 0;
  book_.on_change([&told] { ++told; });
  Heard heard;
  ask(heard);
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(release("b"));
  EXPECT_EQ(told, 2);
}

TEST_F(ReservationBookTest, ARetryThatIsDetachedMakesItGoOnWithoutItsCaller) {
  Heard heard;
  ask(heard, named("r-1"));
  ReservationRequest again = named("r-1");
  again.detached = true;
  ASSERT_TRUE(book_.ask(again, &ignored_, nullptr));
  book_.withdraw(&heard);
  EXPECT_TRUE(book_.find("b"));
}

TEST_F(ReservationBookTest, AGrantEndsWithItsLeaseWhichExtendBeginsAnew) {
  Heard heard;
  ask(heard);
  decide(GrantState::granted, kGiB);
  clock_.advance(50s);
  Heard again;
  ASSERT_TRUE(book_.extend("b", {.token = heard.outcome->record.token}, std::nullopt, into(again)));
  EXPECT_EQ(again.outcome->kind, Kind::granted);
  clock_.advance(50s);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 1U);
  clock_.advance(11s);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 0U);
  EXPECT_TRUE(book_.list().empty());
  EXPECT_EQ(book_.find_ended("b")->outcome.kind, Kind::lapsed);
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
  EXPECT_EQ(book_.counters().used_bytes, kGiB.count());
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
  EXPECT_EQ(book_.counters().granted_bytes, (2 * kGiB).count());
  EXPECT_EQ(book_.counters().used_bytes, kGiB.count());
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

TEST_F(ReservationBookTest, AGuestThatIsTooSmallForWhatIsReservedDoesNotConsumeIt) {
  grant();
  guest("b", true, kGiB / 16);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 1U);
  guest("b", true, kGiB);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 0U);
  EXPECT_EQ(book_.find_ended("b")->outcome.kind, Kind::joined);
}

TEST_F(ReservationBookTest, AWishForAGuestThatRunsIsRefusedWhateverItsSize) {
  guest("b", true, kGiB / 16);
  Heard heard;
  ask(heard);
  EXPECT_EQ(decide(GrantState::pending), 0U);
  EXPECT_EQ(heard.outcome->kind, Kind::name_taken);
}

TEST_F(ReservationBookTest, TheSameRequestIsTheSameReservationHoweverOftenItIsAsked) {
  Heard first;
  Heard second;
  ask(first, named("r-1"));
  ask(second, named("r-1"));
  EXPECT_EQ(decide(GrantState::granted, kGiB), 1U) << "one, and not two";
  ASSERT_TRUE(first.outcome && second.outcome);
  EXPECT_EQ(first.outcome->record.token.size(), 32U);
  clock_.advance(50s);
  Heard third;
  ask(third, named("r-1"));
  ASSERT_TRUE(third.outcome) << "it is granted already";
  for (const Heard* const each : {&second, &third}) {
    EXPECT_EQ(each->outcome->record.token, first.outcome->record.token);
    EXPECT_EQ(each->outcome->record.lease_ends, first.outcome->record.lease_ends)
        << "a retry extends nothing";
  }
}

TEST_F(ReservationBookTest, ARequestWhoseGrantHasEndedIsNotGrantedAgain) {
  const ReservationRecord granted = grant();
  ASSERT_TRUE(release("b"));
  Heard late;
  EXPECT_EQ(ask(late, named("r-1")), Refusal::ended);
  EXPECT_EQ(ask(late, named("r-1", "c")), Refusal::taken) << "that is another wish";
  EXPECT_EQ(ask(late, named("r-1", "b", 8)), std::nullopt) << "another user's request is another one";
}

TEST_F(ReservationBookTest, ARequestThatWasNeverGrantedIsTriedAgain) {
  Heard heard;
  ask(heard, named("r-1"));
  decide(GrantState::denied);
  Heard again;
  EXPECT_EQ(ask(again, named("r-1")), std::nullopt);
  decide(GrantState::granted, kGiB);
  EXPECT_EQ(again.outcome->kind, Kind::granted);
}

TEST_F(ReservationBookTest, TheIdOfAnotherAndARequestWithAnotherWishAreTaken) {
  grant();
  Heard heard;
  EXPECT_EQ(ask(heard, named("r-2")), Refusal::taken);
  EXPECT_EQ(ask(heard), Refusal::taken) << "who sends no request_id asks for one of its own";
  EXPECT_EQ(ask(heard, named("r-1", "b", 8)), Refusal::taken) << "another user";
  ReservationRequest other = named("r-1");
  other.priority = 200;
  EXPECT_EQ(ask(heard, other), Refusal::taken) << "a priority is not ignored in silence";
  EXPECT_EQ(ask(heard, named("r-1", "c")), Refusal::taken);
  EXPECT_FALSE(heard.outcome);
  EXPECT_EQ(book_.list().at(0).wish.lease, 60s) << "nothing of it was changed";
}

TEST_F(ReservationBookTest, WhoHasNotItsTokenNeitherExtendsNorCommitsNorReleases) {
  const std::string token = grant().token;
  for (const std::string& wrong : {std::string(), std::string("x"), std::string(32, '0'), token + "0"}) {
    EXPECT_EQ(why(book_.extend("b", {.token = wrong}, 1s, into(ignored_))), Refusal::not_yours);
    EXPECT_EQ(why(book_.commit("b", {.token = wrong}, 1s, into(ignored_))), Refusal::not_yours);
    EXPECT_EQ(why(book_.release("b", {.token = wrong}, into(ignored_))), Refusal::not_yours);
  }
  EXPECT_FALSE(ignored_.outcome);
  EXPECT_EQ(book_.list().at(0).lease_ends, clock_.now() + 60s);
  Heard released;
  EXPECT_EQ(why(book_.release("b", {.token = token}, into(released))), std::nullopt);
  EXPECT_EQ(released.outcome->kind, Kind::released);
}

TEST_F(ReservationBookTest, ReleasingAgainIsNoErrorThoughTheIdIsAnothersByNow) {
  const std::string old = grant("r-1").token;
  release("b");
  const std::string now = grant("r-2").token;
  Heard again;
  EXPECT_EQ(why(book_.release("b", {.token = old}, into(again))), std::nullopt);
  EXPECT_EQ(again.outcome->kind, Kind::released);
  ASSERT_EQ(book_.list().size(), 1U);
  EXPECT_EQ(book_.list().at(0).token, now);
  EXPECT_EQ(why(book_.extend("b", {.token = old}, 1s, into(again))), Refusal::wrong_state);
}

TEST_F(ReservationBookTest, ACommittedOneIsKeptUntilItsGuestHasComeOrItsNewLeaseEnds) {
  const std::string token = grant().token;
  Heard committed;
  ASSERT_EQ(why(book_.commit("b", {.token = token}, 5min, into(committed))), std::nullopt);
  EXPECT_TRUE(committed.outcome->record.committed);
  clock_.advance(299s);
  EXPECT_EQ(decide(GrantState::granted, kGiB), 1U);
  guest("b", true);
  decide(GrantState::granted, kGiB);
  Heard again;
  ASSERT_EQ(why(book_.commit("b", {.token = token}, 5min, into(again))), std::nullopt)
      << "a retry that comes after the guest is no error";
  EXPECT_EQ(again.outcome->kind, Kind::joined);
  EXPECT_EQ(why(book_.release("b", {.token = token}, into(again))), Refusal::wrong_state);
  EXPECT_EQ(why(book_.extend("b", {.token = token}, 5min, into(again))), Refusal::wrong_state);
}

TEST_F(ReservationBookTest, OneThatIsDetachedIsAnsweredAtOnceAndNotWithdrawn) {
  ReservationRequest request = named("r-1");
  request.detached = true;
  const auto now = book_.ask(request, &ignored_, nullptr);
  ASSERT_TRUE(now);
  EXPECT_EQ(now->state, GrantState::pending);
  book_.withdraw(&ignored_);
  decide(GrantState::granted, kGiB);
  EXPECT_EQ(book_.find("b")->state, GrantState::granted);
  EXPECT_EQ(book_.find("b")->token, now->token);
}

TEST_F(ReservationBookTest, ANewWishOfAnEndedIdIsInTheNextDecisionAndKnownFromTheOneBefore) {
  Heard heard;
  ask(heard);
  const Time before = book_.for_decision({}).at(0).deadline;
  decide(GrantState::granted, kGiB);
  EXPECT_TRUE(release("b"));
  EXPECT_FALSE(release("c"));
  Heard again;
  ask(again);
  const auto wishes = book_.for_decision({});
  ASSERT_EQ(wishes.size(), 1U) << "it does not wait for another period";
  EXPECT_NE(wishes[0].deadline, before);
  EXPECT_EQ(wishes[0].granted, Bytes{0});
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
  ask(one, named("r-1"));
  ask(two, named("r-1"));
  book_.withdraw(&one);
  EXPECT_EQ(book_.list().size(), 1U);
  book_.withdraw(&two);
  EXPECT_TRUE(book_.list().empty());
  Heard granted;
  ask(granted);
  decide(GrantState::granted, kGiB);
  book_.withdraw(&granted);
  EXPECT_EQ(book_.list().size(), 1U) << "its lease decides";
}

TEST_F(ReservationBookTest, TheSameIdWithOtherSizesAndTooManyAreRefused) {
  std::list<Heard> heard(ReservationBook::kMost + 1);
  std::size_t number = 0;
  for (Heard& each : heard) {
    const auto expected = number < ReservationBook::kMost ? std::nullopt : std::optional(Refusal::too_many);
    EXPECT_EQ(ask(each, wish(std::to_string(number))), expected);
    ++number;
  }
  Heard other;
  EXPECT_EQ(ask(other, wish("7", 2 * kGiB)), Refusal::taken);
}

}  // namespace
}  // namespace balloon::daemon
