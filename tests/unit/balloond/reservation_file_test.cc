// SPDX-License-Identifier: Apache-2.0
// What the daemon keeps of its grants, and what it makes of a file that is not as it was written.
#include "balloond/control/reservation_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/files.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;
using namespace std::chrono_literals;

constexpr const char* kBoot = "6e5f0a3e-0000-4000-8000-000000000001";
constexpr const char* kNextBoot = "6e5f0a3e-0000-4000-8000-000000000002";

class ReservationFileTest : public ::testing::Test {
 protected:
  Moment now(const char* boot = kBoot) const {
    return {.now = clock_.now(), .wall = clock_.wall(), .boot = boot};
  }
  ReservationRecord grant(const std::string& id, std::chrono::nanoseconds lease = 10min) const {
    ReservationRecord record;
    record.wish = {.id = id, .min = kGiB, .max = 2 * kGiB, .priority = 300, .within = 30s, .lease = lease};
    record.deadline_wall = clock_.wall() + 30s;
    record.state = policy::GrantState::granted;
    record.granted = kGiB + 512 * kMiB;
    record.token = "0123456789abcdef0123456789abcdef";
    record.wish.request_id = "request of " + id;
    record.wish.owner = "nova";
    record.wish.uid = 108;
    record.lease_ends = clock_.now() + lease;
    record.lease_until = clock_.wall() + std::chrono::duration_cast<WallTime::duration>(lease);
    return record;
  }
  static KeptReservations kept(std::vector<ReservationRecord> grants) {
    return {.revision = 1, .grants = std::move(grants), .ended = {}};
  }
  std::string file() const { return tree_.root() + "/state/reservations.json"; }
  std::string complaint(const std::string& text) const {
    const auto read = read_reservations(text, now());
    return read ? "" : read.error().message;
  }
  /// The text of one good grant with a part of it replaced.
  std::string spoilt(const std::string& part, const std::string& by) const {
    std::string text = write_reservations(kept({grant("a")}), kBoot);
    const auto at = text.find(part);
    EXPECT_NE(at, std::string::npos) << part << " is not in " << text;
    return at == std::string::npos ? text : text.replace(at, part.size(), by);
  }

  test::FakeClock clock_;
  test::FakeTree tree_;
};

TEST_F(ReservationFileTest, WhatIsSavedIsThereAgain) {
  const ReservationFile saved(clock_, file(), kBoot);
  EXPECT_TRUE(saved.load()->grants.empty()) << "there is no file yet";
  ASSERT_TRUE(saved.save(kept({grant("a"), grant("b", 20min)}))) << "its directory is made";
  clock_.advance(4min);
  const auto loaded = ReservationFile(clock_, file(), kBoot).load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->grants.size(), 2U);
  const ReservationRecord& a = loaded->grants.at(0);
  EXPECT_EQ(a.wish.id, "a");
  EXPECT_EQ(a.wish.min, kGiB);
  EXPECT_EQ(a.wish.max, 2 * kGiB);
  EXPECT_EQ(a.wish.priority, 300U);
  EXPECT_EQ(a.wish.lease, 10min);
  EXPECT_EQ(a.granted, kGiB + 512 * kMiB);
  EXPECT_EQ(a.state, policy::GrantState::granted);
  EXPECT_EQ(a.lease_ends - clock_.now(), 6min);
  EXPECT_EQ(a.lease_until - clock_.wall(), 6min);
  EXPECT_EQ(loaded->grants.at(1).wish.id, "b") << "in the order in which they came";
}

TEST_F(ReservationFileTest, TokensRequestsAndWhatHasEndedAreThereAgain) {
  ReservationRecord committed = grant("a");
  committed.committed = true;
  KeptReservations all = kept({committed});
  all.ended.push_back({.outcome = {.kind = ReservationOutcome::Kind::joined,
                                   .record = grant("b"),
                                   .reason = "its guest has come"},
                       .at = clock_.now(),
                       .at_wall = clock_.wall()});
  clock_.advance(4min);
  const auto read = read_reservations(write_reservations(all, kBoot), now());
  ASSERT_TRUE(read) << read.error().message;
  const ReservationRecord& a = read->grants.at(0);
  EXPECT_TRUE(a.committed);
  EXPECT_EQ(a.token, committed.token);
  EXPECT_EQ(a.wish.request_id, "request of a");
  EXPECT_EQ(a.wish.owner, "nova");
  EXPECT_EQ(a.wish.uid, 108U);
  const EndedReservation& b = read->ended.at(0);
  EXPECT_EQ(b.outcome.kind, ReservationOutcome::Kind::joined);
  EXPECT_EQ(b.outcome.reason, "its guest has come");
  EXPECT_EQ(b.outcome.record.wish.request_id, "request of b");
  EXPECT_EQ(clock_.now() - b.at, 4min);
}

TEST_F(ReservationFileTest, TheFormatBeforeThisOneIsReadAndItsGrantsHaveNoToken) {
  const auto read = read_reservations(R"({"version": 1, "boot_id": "6e5f0a3e-0000-4000-8000-000000000001",
    "grants": [{"id": "a", "min_bytes": "1073741824", "max_bytes": "1073741824", "priority": 100,
      "granted_bytes": "1073741824", "deadline": "2023-11-14T22:13:50Z", "lease": "600s",
      "lease_until": "2023-11-14T22:23:20Z", "lease_until_since_boot": "1600s"}]})",
                                      now());
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->grants.size(), 1U);
  EXPECT_EQ(read->grants.at(0).token, "");
  EXPECT_EQ(read->grants.at(0).lease_ends, 1600s);
}

TEST_F(ReservationFileTest, ALeaseThatIsOverIsNotInForceAgainAndItsRequestIsKnown) {
  const std::string text = write_reservations(kept({grant("short", 1min), grant("long", 1h)}), kBoot);
  for (const char* boot : {kBoot, kNextBoot, ""}) {
    test::FakeClock then;
    then.advance(1min);
    const auto read = read_reservations(text, {.now = then.now(), .wall = then.wall(), .boot = boot});
    ASSERT_EQ(read->grants.size(), 1U) << boot;
    EXPECT_EQ(read->grants.at(0).wish.id, "long");
    ASSERT_EQ(read->ended.size(), 1U);
    EXPECT_EQ(read->ended.at(0).outcome.kind, ReservationOutcome::Kind::lapsed);
    EXPECT_EQ(read->ended.at(0).outcome.record.wish.request_id, "request of short");
  }
}

TEST_F(ReservationFileTest, WithinABootASteppedWallClockChangesNothing) {
  const std::string text = write_reservations(kept({grant("a", 10min)}), kBoot);
  clock_.advance(9min);
  for (const auto step : {-48h, 0h, 48h}) {
    Moment at = now();
    at.wall += step;
    const auto read = read_reservations(text, at);
    ASSERT_EQ(read->grants.size(), 1U);
    EXPECT_EQ(read->grants.at(0).lease_ends - at.now, 1min);
    EXPECT_EQ(read->grants.at(0).lease_until - at.wall, 1min);
  }
  clock_.advance(1min);
  Moment back = now();
  back.wall -= 48h;
  EXPECT_TRUE(read_reservations(text, back)->grants.empty());
}

TEST_F(ReservationFileTest, AfterAnotherBootTheWallClockCountsAndNeverForMoreThanTheLease) {
  const std::string text = write_reservations(kept({grant("a", 10min)}), kBoot);
  Moment at = now(kNextBoot);
  at.now = 5s;
  at.wall += 4min;
  EXPECT_EQ(read_reservations(text, at)->grants.at(0).lease_ends - at.now, 6min);
  at.wall -= 48h;
  EXPECT_EQ(read_reservations(text, at)->grants.at(0).lease_ends - at.now, 10min) << "the clock went back";
  at.wall += 96h;
  EXPECT_TRUE(read_reservations(text, at)->grants.empty()) << "the clock went on";
  at.boot = "";
  EXPECT_TRUE(read_reservations(write_reservations(kept({grant("a", 10min)}), ""), at)->grants.empty())
      << "two boots that are not known are not the same";
}

TEST_F(ReservationFileTest, EveryTruncatedFileIsRefused) {
  const std::string text = write_reservations(kept({grant("a"), grant("b")}), kBoot);
  const std::size_t whole = text.find_last_not_of(" \n") + 1;
  for (std::size_t size = 0; size < whole; ++size)
    EXPECT_TRUE(complaint(text.substr(0, size)).starts_with("it is damaged: ")) << text.substr(0, size);
  EXPECT_EQ(complaint(text), "");
}

TEST_F(ReservationFileTest, AFlippedBitIsRefusedOrReadsAsSomethingThatMakesSense) {
  const std::string text = write_reservations(kept({grant("a"), grant("b")}), kBoot);
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto read = read_reservations(flipped, now());
    if (!read) continue;
    for (const ReservationRecord& record : read->grants) {
      EXPECT_GE(record.granted, record.wish.min);
      EXPECT_LE(record.granted, record.wish.max);
      EXPECT_LE(record.lease_ends - clock_.now(), record.wish.lease);
      EXPECT_LE(record.wish.lease, kLeaseMax);
    }
  }
}

TEST_F(ReservationFileTest, WhatMakesNoSenseIsRefusedByName) {
  EXPECT_EQ(complaint(spoilt(R"("version": 2)", R"("version": 3, "more": [1])")),
            "it has version 3 of the format, this program reads versions 1 and 2");
  EXPECT_EQ(complaint("{}"), "it has version 0 of the format, this program reads versions 1 and 2");
  EXPECT_TRUE(complaint(spoilt(R"("priority")", R"("proirity")")).find("proirity") != std::string::npos);
  const auto of_a = [&](const std::string& part, const std::string& by) {
    const std::string said = complaint(spoilt(part, by));
    EXPECT_TRUE(said.starts_with("it is damaged: grant '")) << said;
    return said.substr(std::min(said.size(), said.find("': ") + 3));
  };
  EXPECT_EQ(of_a(R"("id": "a")", R"("id": "../a")"), "its id is not 1 to 64 characters of A-Z a-z 0-9 . _ -");
  EXPECT_EQ(of_a(R"("min_bytes": "1073741824")", R"("min_bytes": "0")"), "its sizes make no sense");
  EXPECT_EQ(of_a(R"("max_bytes": "2147483648")", R"("max_bytes": "18446744073709551615")"),
            "its sizes make no sense");
  EXPECT_EQ(of_a(R"("granted_bytes": "1610612736")", R"("granted_bytes": "4294967296")"),
            "what is granted is not between its sizes");
  EXPECT_EQ(of_a(R"("priority": 300)", R"("priority": 0)"), "its priority is out of range");
  EXPECT_EQ(of_a(R"("lease": "600s")", R"("lease": "-600s")"), "its lease is out of range");
  EXPECT_EQ(of_a(R"("lease": "600s")", R"("lease": "86401s")"), "its lease is out of range");
  EXPECT_EQ(of_a(R"("lease": "600s",)", ""), "one of its times is missing");
  for (const char* time : {"deadline", "lease_until", "lease_until_since_boot"}) {
    const std::string begin = "\"" + std::string(time) + "\": \"";
    const std::string text = write_reservations(kept({grant("a")}), kBoot);
    const auto at = text.find(begin);
    ASSERT_NE(at, std::string::npos) << text;
    EXPECT_EQ(of_a(text.substr(at, text.find(',', at) + 1 - at), ""), "one of its times is missing") << time;
  }
  EXPECT_EQ(of_a(R"("lease": "600s")", R"("lease": "315576000000s")"), "its lease is out of range");
  EXPECT_EQ(of_a(R"("lease_until_since_boot": "1600s")", R"("lease_until_since_boot": "-0.5s")"),
            "its lease_until_since_boot is out of range");
  EXPECT_EQ(of_a(R"("priority": 300)", R"("priority": 10001)"), "its priority is out of range");
  EXPECT_EQ(complaint(spoilt(R"("priority": 300)", R"("priority": 10000)")), "");
  EXPECT_EQ(of_a(R"("max_bytes": "2147483648")", R"("max_bytes": "70368744177665")"),
            "its sizes make no sense");
  EXPECT_EQ(complaint(spoilt(R"("max_bytes": "2147483648")", R"("max_bytes": "70368744177664")")), "")
      << "64 TiB";
  EXPECT_EQ(of_a(R"("lease_until_since_boot": "1600s")", R"("lease_until_since_boot": "315576000000s")"),
            "its lease_until_since_boot is out of range");
  EXPECT_EQ(complaint(write_reservations(kept({grant("a"), grant("a")}), kBoot)),
            "it is damaged: grant 'a' is there twice");
  EXPECT_EQ(complaint(write_reservations(kept(std::vector(ReservationBook::kMost + 1, grant("a"))), kBoot)),
            "it is damaged: 1001 grants are more than 1000");
}

TEST_F(ReservationFileTest, WhatMakesNoSenseOfAGrantThatHasEndedIsRefusedToo) {
  KeptReservations all = kept({});
  all.ended.push_back(
      {.outcome = {.kind = ReservationOutcome::Kind::released, .record = grant("b"), .reason = ""},
       .at = clock_.now(),
       .at_wall = clock_.wall()});
  const std::string text = write_reservations(all, kBoot);
  EXPECT_EQ(complaint(text), "");
  const auto without = [&](const std::string& part, const std::string& by) {
    std::string spoilt = text;
    return complaint(spoilt.replace(spoilt.find(part), part.size(), by));
  };
  EXPECT_EQ(without(R"("priority": 300)", R"("priority": 0)"),
            "it is damaged: ended grant 'b': its priority is out of range");
  EXPECT_EQ(without(R"("end": "END_RELEASED")", R"("end": "END_UNSPECIFIED")"),
            "it is damaged: ended grant 'b': how it ended is missing");
}

TEST_F(ReservationFileTest, ADamagedFileIsAnErrorThatSaysWhatWhereAndWhatToDo) {
  tree_.write("/state/reservations.json", "{\"version\": 1, \"gra");
  const auto loaded = ReservationFile(clock_, file(), kBoot).load();
  ASSERT_FALSE(loaded);
  EXPECT_TRUE(loaded.error().message.starts_with(file() + ": it is damaged: ")) << loaded.error().message;
  EXPECT_TRUE(loaded.error().message.ends_with("mend the file, or move it away (mv " + file() + " " + file() +
                                               ".damaged), which ends the reservations in it"))
      << loaded.error().message;
  tree_.write("/state/reservations.json", std::string((4 << 20) + 1, ' '));
  const auto too_large = ReservationFile(clock_, file(), kBoot).load();
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().message.find("damaged"), std::string::npos) << "it is not even read";
  EXPECT_FALSE(ReservationFile(clock_, tree_.root() + "/state", kBoot).load()) << "a directory";
}

TEST_F(ReservationFileTest, AThousandReservationsFit) {
  const ReservationFile saved(clock_, file(), kBoot);
  std::vector<ReservationRecord> all;
  for (std::size_t i = 0; i < ReservationBook::kMost; ++i)
    all.push_back(grant(std::string(60, 'x') + std::to_string(i)));
  ASSERT_TRUE(saved.save(kept(all)));
  EXPECT_EQ(saved.load()->grants.size(), all.size());
}

TEST_F(ReservationFileTest, TheKernelSaysWhichBootItIs) { EXPECT_EQ(boot_id().size(), 36U) << boot_id(); }

}  // namespace
}  // namespace balloon::daemon
