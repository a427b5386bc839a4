// SPDX-License-Identifier: Apache-2.0
// Nothing is answered before it is on disk, and what was answered is there after a restart.
#include "balloond/control/reservation_keeper.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>

#include "base/files.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using policy::GrantState;
using test::kGiB;
using namespace std::chrono_literals;
using Kind = ReservationOutcome::Kind;

/// A book that somebody keeps: the test.
class KeptBookTest : public ::testing::Test {
 protected:
  using Heard = std::optional<ReservationOutcome>;
  KeptBookTest() {
    book_.keep_by([this] { ++calls_; });
    keep();
  }
  static ReservationRequest wish(const std::string& id = "b", std::chrono::nanoseconds lease = 60s) {
    return {.id = id, .min = kGiB, .max = kGiB, .priority = 100, .within = 30s, .lease = lease};
  }
  void ask(Heard& heard, const ReservationRequest& request = wish()) {
    ASSERT_TRUE(book_.ask(request, &heard, [&heard](const ReservationOutcome& outcome) { heard = outcome; }));
  }
  void renew(Heard& heard, std::chrono::nanoseconds lease = 60s) {
    ASSERT_TRUE(book_.extend("b", {.force = true}, lease,
                             [&heard](const ReservationOutcome& outcome) { heard = outcome; }));
  }
  void release(Heard& heard) {
    ASSERT_TRUE(book_.release("b", {.force = true},
                              [&heard](const ReservationOutcome& outcome) { heard = outcome; }));
  }
  std::vector<policy::Reservation> decide(GrantState state = GrantState::granted) {
    policy::Snapshot seen;
    seen.reservations = book_.for_decision(guests_);
    policy::Plan plan;
    plan.budget = 8 * kGiB;
    for (const auto& each : seen.reservations) plan.reservations.push_back({each.id, state, each.min});
    book_.settle(seen, plan);
    return seen.reservations;
  }
  /// Writes down what there is; the ids, or "-" when there is nothing new.
  std::string keep() {
    const auto all = book_.unkept();
    if (!all) return "-";
    book_.kept(all->revision);
    return ids(*all);
  }
  void fail() { book_.not_kept(book_.unkept()->revision, "the disk is full"); }
  static std::string ids(const KeptReservations& all) {
    std::string text;
    for (const ReservationRecord& each : all.grants) text += each.wish.id;
    return text;
  }
  void grant() {
    Heard heard;
    ask(heard);
    decide();
    keep();
    ASSERT_TRUE(heard);
    ASSERT_EQ(heard->kind, Kind::granted);
  }

  test::FakeClock clock_;
  std::vector<policy::GuestSnapshot> guests_;
  ReservationBook book_{clock_};
  int calls_ = 0;
};

TEST_F(KeptBookTest, AGrantIsAnsweredAndShownOnceItIsKept) {
  Heard heard;
  ask(heard);
  EXPECT_EQ(keep(), "-") << "a wish is no promise";
  decide();
  EXPECT_FALSE(heard);
  EXPECT_EQ(book_.list().at(0).state, GrantState::pending);
  EXPECT_EQ(keep(), "b");
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->kind, Kind::granted);
  EXPECT_EQ(heard->record.granted, kGiB);
  EXPECT_EQ(book_.list().at(0).state, GrantState::granted);
  EXPECT_EQ(decide().at(0).granted, kGiB) << "the engine is told that it is promised";
}

TEST_F(KeptBookTest, WhatThereIsWhenSomebodyBeginsToKeepItIsToBeWritten) {
  int calls = 0;
  ReservationBook book(clock_);
  EXPECT_FALSE(book.unkept());
  book.keep_by([&calls] { ++calls; });
  EXPECT_TRUE(book.unkept());
  EXPECT_EQ(calls, 1);
}

TEST_F(KeptBookTest, WhoDecidesIsToldWhenSomethingIsKeptThatSomebodyWaitsFor) {
  Heard heard;
  ask(heard);
  int told = 0;
  book_.on_change([&told] { ++told; });
  decide();
  EXPECT_EQ(told, 0);
  keep();
  EXPECT_EQ(told, 1);
  clock_.advance(61s);
  decide();
  keep();
  EXPECT_EQ(told, 1) << "nobody waited for its end";
}

TEST_F(KeptBookTest, NothingIsWrittenWhenNothingChanges) {
  grant();
  const int calls = calls_;
  for (int i = 0; i < 10; ++i) decide();
  EXPECT_EQ(calls_, calls);
  EXPECT_EQ(keep(), "-");
}

TEST_F(KeptBookTest, AGrantThatCannotBeKeptIsNone) {
  Heard heard;
  ask(heard);
  decide();
  fail();
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->kind, Kind::unsaved);
  EXPECT_EQ(heard->reason, "it cannot be written down: the disk is full");
  EXPECT_TRUE(book_.list().empty());
  EXPECT_TRUE(decide().empty()) << "its memory is free again";
  EXPECT_EQ(keep(), "") << "what the disk has now is not known";
  EXPECT_EQ(keep(), "-");
}

TEST_F(KeptBookTest, ARenewalHoldsOnceItIsKeptAndOtherwiseTheOldLease) {
  grant();
  clock_.advance(50s);
  Heard failed;
  renew(failed);
  EXPECT_FALSE(failed);
  fail();
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->kind, Kind::unsaved);
  EXPECT_EQ(book_.list().at(0).lease_ends, clock_.now() + 10s);
  Heard good;
  renew(good, 5min);
  EXPECT_EQ(book_.list().at(0).lease_ends, clock_.now() + 10s);
  EXPECT_EQ(keep(), "b");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->record.lease_ends, clock_.now() + 5min);
  EXPECT_EQ(book_.list().at(0).lease_ends, clock_.now() + 5min);
}

TEST_F(KeptBookTest, ALeaseDoesNotRunOutWhileItsRenewalIsWritten) {
  grant();
  clock_.advance(59s);
  Heard renewed;
  renew(renewed);
  clock_.advance(5s);
  EXPECT_EQ(decide().size(), 1U);
  keep();
  ASSERT_TRUE(renewed);
  EXPECT_EQ(renewed->kind, Kind::granted);
  EXPECT_EQ(decide().size(), 1U);
}

TEST_F(KeptBookTest, AReleaseHoldsOnceItIsKeptAndOtherwiseTheReservation) {
  grant();
  Heard failed;
  release(failed);
  EXPECT_EQ(decide().size(), 1U) << "the disk still has it";
  fail();
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->kind, Kind::unsaved);
  EXPECT_EQ(book_.list().size(), 1U);
  EXPECT_EQ(keep(), "b");
  Heard good;
  release(good);
  EXPECT_EQ(keep(), "");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->kind, Kind::released);
  EXPECT_TRUE(book_.list().empty());
  EXPECT_EQ(keep(), "-") << "once is enough";
}

TEST_F(KeptBookTest, WhatComesWhileTheDiskIsSlowIsAnsweredByTheNextWrite) {
  Heard granted;
  ask(granted);
  decide();
  const auto first = book_.unkept();
  Heard renewed;
  renew(renewed, 5min);
  Heard other;
  ask(other, wish("c"));
  decide();
  Heard released;
  release(released);
  book_.kept(first->revision);
  ASSERT_TRUE(granted);
  EXPECT_EQ(granted->record.wish.lease, 60s);
  EXPECT_FALSE(renewed);
  EXPECT_FALSE(other);
  EXPECT_FALSE(released);
  EXPECT_EQ(keep(), "c");
  EXPECT_EQ(renewed->kind, Kind::granted);
  EXPECT_EQ(other->kind, Kind::granted);
  EXPECT_EQ(released->kind, Kind::released);
}

TEST_F(KeptBookTest, WhatFailsTakesOnlyThatWithItWhichWasToBeWritten) {
  grant();
  Heard early;
  renew(early);
  const auto first = book_.unkept();
  Heard late;
  renew(late, 5min);
  book_.not_kept(first->revision, "the disk is full");
  ASSERT_TRUE(early);
  EXPECT_EQ(early->kind, Kind::unsaved);
  EXPECT_FALSE(late);
  keep();
  ASSERT_TRUE(late);
  EXPECT_EQ(late->record.wish.lease, 5min);
}

TEST_F(KeptBookTest, TheEndsOfLeasesAndReservationsWhoseGuestHasComeAreWrittenToo) {
  grant();
  Heard heard;
  ask(heard, wish("c", 10min));
  decide();
  EXPECT_EQ(keep(), "bc");
  clock_.advance(61s);
  decide();
  EXPECT_EQ(keep(), "c");
  policy::GuestSnapshot guest;
  guest.name = "c";
  guest.memory = kGiB;
  guest.controllable = true;
  guests_ = {guest};
  decide();
  EXPECT_EQ(keep(), "");
}

TEST_F(KeptBookTest, ToReleaseOneWhoseLeaseHasRunOutIsAnsweredOnceItsEndIsKept) {
  grant();
  Heard longer;
  renew(longer, 10min);
  fail();  // though the disk may have it
  clock_.advance(61s);
  decide();
  Heard released;
  release(released);
  EXPECT_FALSE(released) << "after a kill it would be there again";
  fail();
  ASSERT_TRUE(released);
  EXPECT_EQ(released->kind, Kind::unsaved);
  Heard again;
  const int calls = calls_;
  release(again);
  EXPECT_EQ(calls_, calls + 1) << "it is to be tried again";
  EXPECT_EQ(keep(), "");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->kind, Kind::released);
  Heard late;
  release(late);
  EXPECT_TRUE(late) << "that is kept by now";
}

TEST_F(KeptBookTest, ACallerThatGoesAwayWhileItsGrantIsWrittenWithdrawsIt) {
  Heard heard;
  ask(heard);
  decide();
  const auto first = book_.unkept();
  book_.withdraw(&heard);
  EXPECT_TRUE(book_.list().empty());
  book_.kept(first->revision);
  EXPECT_FALSE(heard);
  EXPECT_EQ(keep(), "");
}

/// The keeper over a real file.
class ReservationKeeperTest : public ::testing::Test {
 protected:
  struct Run {
    explicit Run(const Clock& clock) : book(clock) {}
    ReservationBook book;
    std::unique_ptr<ReservationKeeper> keeper;
  };
  std::unique_ptr<Run> start() {
    auto run = std::make_unique<Run>(clock_);
    auto keeper = ReservationKeeper::start(run->book, ReservationFile(clock_, file(), "boot"));
    EXPECT_TRUE(keeper) << keeper.error().message;
    if (keeper) run->keeper = std::move(*keeper);
    return run;
  }
  std::string file() const { return tree_.root() + "/reservations.json"; }
  std::string text() const {
    const auto read = read_file(file(), 1 << 20);
    return read && *read ? **read : "";
  }
  static bool decide(ReservationBook& book) {
    policy::Snapshot seen;
    seen.reservations = book.for_decision({});
    policy::Plan plan;
    for (const auto& each : seen.reservations)
      plan.reservations.push_back({each.id, GrantState::granted, each.min});
    book.settle(seen, plan);
    return !seen.reservations.empty();
  }
  static Kind wait(const std::atomic<int>& kind) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (kind < 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
    EXPECT_GE(kind, 0) << "no answer";
    return static_cast<Kind>(kind.load());
  }
  static Kind reserve(ReservationBook& book, const std::string& id) {
    std::atomic<int> kind{-1};
    EXPECT_TRUE(book.ask({.id = id, .min = kGiB, .max = kGiB, .within = 30s, .lease = 60s}, &kind,
                         [&](const ReservationOutcome& outcome) { kind = static_cast<int>(outcome.kind); }));
    decide(book);
    return wait(kind);
  }
  static Kind release(ReservationBook& book, const std::string& id) {
    std::atomic<int> kind{-1};
    EXPECT_TRUE(book.release(id, {.force = true}, [&](const ReservationOutcome& outcome) {
      kind = static_cast<int>(outcome.kind);
    }));
    return wait(kind);
  }

  test::FakeClock clock_;
  test::FakeTree tree_;
};

TEST_F(ReservationKeeperTest, WhatWasAnsweredIsInTheFileAtThatMoment) {
  const auto run = start();
  ASSERT_EQ(reserve(run->book, "a"), Kind::granted);
  EXPECT_NE(text().find(R"("id": "a")"), std::string::npos) << text();
  ASSERT_EQ(release(run->book, "a"), Kind::released);
  EXPECT_EQ(text().find(R"("id": "a")"), std::string::npos) << text();
}

TEST_F(ReservationKeeperTest, AGrantIsInForceInTheFirstDecisionOfTheNextRun) {
  {
    const auto run = start();
    ASSERT_EQ(reserve(run->book, "a"), Kind::granted);
    ASSERT_EQ(reserve(run->book, "b"), Kind::granted);
    ASSERT_EQ(release(run->book, "b"), Kind::released);
  }
  const auto next = start();
  const auto wishes = next->book.for_decision({});
  ASSERT_EQ(wishes.size(), 1U);
  EXPECT_EQ(wishes[0].id, "a");
  EXPECT_EQ(wishes[0].granted, kGiB);
  clock_.advance(61s);
  EXPECT_FALSE(decide(next->book)) << "its lease goes on where it was";
}

TEST_F(ReservationKeeperTest, ARequestIsTheSameReservationInTheNextRunAndIsNotGrantedAgainOnceItHasEnded) {
  const ReservationRequest request{
      .id = "a", .min = kGiB, .max = kGiB, .within = 30s, .lease = 60s, .request_id = "r-1", .uid = 7};
  const auto asked = [&](ReservationBook& book, ReservationOutcome& outcome) {
    std::atomic<int> kind{-1};
    const auto answer = book.ask(request, &kind, [&](const ReservationOutcome& told) {
      outcome = told;
      kind = static_cast<int>(told.kind);
    });
    if (!answer) return false;
    decide(book);
    wait(kind);
    return true;
  };
  std::string token;
  {
    const auto run = start();
    ReservationOutcome outcome;
    ASSERT_TRUE(asked(run->book, outcome));
    token = outcome.record.token;
  }
  {
    const auto run = start();
    ReservationOutcome outcome;
    ASSERT_TRUE(asked(run->book, outcome));
    EXPECT_EQ(outcome.kind, Kind::granted);
    EXPECT_EQ(outcome.record.token, token);
    EXPECT_EQ(run->book.list().size(), 1U);
    ASSERT_EQ(release(run->book, "a"), Kind::released);
  }
  const auto run = start();
  ReservationOutcome outcome;
  EXPECT_FALSE(asked(run->book, outcome)) << "a retry that was late would keep memory for nobody";
  EXPECT_EQ(run->book.find_ended("a")->outcome.kind, Kind::released);
}

TEST_F(ReservationKeeperTest, AFullDiskRefusesWithTheReasonUntilThereIsRoomAgain) {
  const auto run = start();
  ASSERT_EQ(reserve(run->book, "a"), Kind::granted);
  const std::string before = text();
  std::filesystem::create_symlink("/dev/full", file() + ".new");
  EXPECT_EQ(reserve(run->book, "b"), Kind::unsaved);
  EXPECT_TRUE(run->book.failing());
  EXPECT_EQ(text(), before);
  std::filesystem::create_symlink("/dev/full", file() + ".new");
  EXPECT_EQ(release(run->book, "a"), Kind::unsaved);
  EXPECT_EQ(text(), before);
  EXPECT_EQ(run->book.list().size(), 1U);
  EXPECT_EQ(reserve(run->book, "b"), Kind::granted);
  EXPECT_FALSE(run->book.failing());
}

TEST_F(ReservationKeeperTest, ADirectoryThatTakesNoFilesRefusesWithTheReason) {
  ReservationBook book(clock_);
  const auto keeper = ReservationKeeper::start(book, ReservationFile(clock_, "/proc/reservations.json", ""));
  ASSERT_TRUE(keeper) << "guests are controlled all the same";
  EXPECT_EQ(reserve(book, "a"), Kind::unsaved);
  EXPECT_TRUE(book.list().empty());
}

TEST_F(ReservationKeeperTest, ADamagedFileIsLeftAsItIsAndNothingStarts) {
  tree_.write("/reservations.json", "{\"version\": 1, \"gra");
  ReservationBook book(clock_);
  EXPECT_FALSE(ReservationKeeper::start(book, ReservationFile(clock_, file(), "boot")));
  EXPECT_EQ(text(), "{\"version\": 1, \"gra");
}

}  // namespace
}  // namespace balloon::daemon
