// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/registry.h"

#include <gtest/gtest.h>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;
using Kind = JoinRefusal::Kind;

constexpr Peer kVmm{.pid = 42, .uid = 1000};

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() {
    tree_.process(42, "1024");
    tree_.process(43, "1024");
    guests_.on_change([this](const GuestChange& change) { changes_.push_back(change); });
  }
  Session join(const std::string& name = "a", Peer peer = kVmm) {
    const auto session = guests_.joined(test::registration(name, 2 * kGiB, kGiB), peer, channel_);
    EXPECT_TRUE(session) << session.error().reason;
    return session.value_or(0);
  }
  BalloonState balloon(policy::Bytes actual, policy::Bytes target, bool ready = true) const {
    BalloonState update;
    update.actual = actual;
    update.target = target;
    update.driver_ready = ready;
    return update;
  }

  /// Has the guest asked for a size, and its hypervisor take it and reach it.
  void reach(Session session, policy::Bytes target) {
    ASSERT_TRUE(guests_.set_target("a", session, target));
    guests_.answered(session, Request::Kind::target, channel_->asked.back().sequence, "");
    guests_.balloon(session, balloon(target, target));
  }

  test::FakeTree tree_;
  test::FakeClock clock_;
  Registry guests_{clock_, tree_.root()};
  std::shared_ptr<test::FakeChannel> channel_ = std::make_shared<test::FakeChannel>();
  std::vector<GuestChange> changes_;
};

TEST_F(RegistryTest, AGuestThatJoinsIsTakenAsItIs) {
  join();
  const auto guest = guests_.find("a");
  ASSERT_TRUE(guest);
  EXPECT_EQ(guest->balloon.actual, kGiB);
  EXPECT_EQ(guest->target, kGiB);
  EXPECT_EQ(guest->on_host.resident, kMiB);
  EXPECT_EQ(guest->peer.pid, 42);
  EXPECT_TRUE(channel_->asked.empty());
  ASSERT_EQ(changes_.size(), 1U);
  EXPECT_EQ(changes_[0].kind, GuestChange::Kind::joined);
}

TEST_F(RegistryTest, ANameThatIsConnectedIsRefusedEvenToTheSameProcess) {
  join();
  for (const Peer& peer : {kVmm, Peer{.pid = 43, .uid = 0}}) {
    const auto second = guests_.joined(test::registration("a", kGiB, kGiB), peer, channel_);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, Kind::already_exists);
  }
}

TEST_F(RegistryTest, HypervisorsAreMeasuredByHowLongTheyTakeAndByWhatTheyRefuse) {
  Registration seen = test::registration("a", 2 * kGiB, kGiB);
  seen.hypervisor = "qemu";
  const auto session = guests_.joined(seen, kVmm, channel_);
  ASSERT_TRUE(session);
  const RequestCounters& qemu = guests_.requests()[1];
  ASSERT_TRUE(guests_.set_target("a", *session, kGiB / 2));
  clock_.advance(std::chrono::milliseconds(50));
  guests_.answered(*session, Request::Kind::target, channel_->asked.back().sequence, "no");
  EXPECT_EQ(qemu.targets.counts().at(3), 1U) << "between 25 and 100 ms";
  EXPECT_DOUBLE_EQ(qemu.targets.sum(), 0.05);
  EXPECT_EQ(qemu.refused, 1U);
  StatsSample sample = test::sample(2 * kGiB, kGiB, kGiB / 2);
  sample.round_trip = std::chrono::hours(1'000'000);
  guests_.stats(*session, sample);
  EXPECT_EQ(qemu.stats.sum(), 60) << "an absurd value counts as a minute";
  EXPECT_EQ(guests_.requests()[0].targets.sum(), 0) << "it is not balloon-vmm's";
}

TEST_F(RegistryTest, AGuestThatTwoBackendsSeeCountsOnce) {
  Registration seen = test::registration("a", 2 * kGiB, kGiB);
  seen.hypervisor = "balloon-vmm";
  const auto first = guests_.joined(seen, kVmm, channel_);
  ASSERT_TRUE(first);
  seen.name = "b";
  seen.hypervisor = "qemu";
  const auto second = guests_.joined(seen, kVmm, channel_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, Kind::already_managed);
  EXPECT_EQ(second.error().reason, "process 42 is already managed as guest a (balloon-vmm)");
  guests_.left(*first);
  EXPECT_FALSE(guests_.joined(seen, kVmm, channel_)) << "it still counts as guest a";
  EXPECT_TRUE(guests_.joined(seen, {.pid = 43, .uid = 0}, channel_)) << "another process is another guest";
}

TEST_F(RegistryTest, AGuestWhoseProcessOneBackendDoesNotSeeIsKnownByItsUuid) {
  Registration seen = test::registration("a", 2 * kGiB, kGiB);
  seen.hypervisor = "qemu";
  seen.labels["uuid"] = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31";
  ASSERT_TRUE(guests_.joined(seen, kVmm, channel_));
  seen.name = "b";
  seen.hypervisor = "libvirt";
  const auto second = guests_.joined(seen, Peer{}, channel_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().reason, "process 42 is already managed as guest a (qemu)");
  seen.labels["uuid"] = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c32";
  EXPECT_TRUE(guests_.joined(seen, Peer{}, channel_)) << "another UUID is another guest";
}

TEST_F(RegistryTest, AGuestThatLeftIsKeptWhileItsProcessLivesAndForgottenAfterwards) {
  guests_.left(join());
  guests_.refresh();
  ASSERT_TRUE(guests_.find("a"));
  EXPECT_FALSE(guests_.find("a")->connected);
  tree_.end_process(42);
  guests_.refresh();
  EXPECT_FALSE(guests_.find("a"));
}

TEST_F(RegistryTest, AGuestOfAnUnknownProcessIsKeptForAMinute) {
  guests_.left(join("a", Peer{}));
  clock_.advance(std::chrono::seconds(59));
  guests_.refresh();
  EXPECT_TRUE(guests_.find("a"));
  clock_.advance(std::chrono::seconds(1));
  guests_.refresh();
  EXPECT_FALSE(guests_.find("a"));
}

TEST_F(RegistryTest, OnlyItsOwnProcessTakesAGuestUpAgainWhileThatLives) {
  const Session first = join();
  ASSERT_TRUE(guests_.set_pin("a", kGiB, std::chrono::minutes(1)));
  guests_.left(first);
  const auto other = guests_.joined(test::registration("a", kGiB, kGiB), {.pid = 43, .uid = 0}, channel_);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, Kind::already_exists);
  const Session second = join();
  EXPECT_NE(second, first);
  EXPECT_TRUE(guests_.find("a")->pin) << "a pin outlives a lost connection";
  tree_.end_process(42);
  guests_.left(second);
  EXPECT_TRUE(guests_.joined(test::registration("a", kGiB, kGiB), {.pid = 43, .uid = 0}, channel_));
}

TEST_F(RegistryTest, NewsOfAFormerStayHarmNobody) {
  const Session first = join();
  guests_.left(first);
  join();
  guests_.balloon(first, balloon(512 * kMiB, 512 * kMiB));
  guests_.stats(first, test::sample(2 * kGiB, kGiB, kMiB));
  guests_.left(first);
  EXPECT_TRUE(guests_.find("a")->connected);
  EXPECT_EQ(guests_.find("a")->balloon.actual, kGiB);
  EXPECT_FALSE(guests_.find("a")->said);
}

TEST_F(RegistryTest, ATargetIsAskedForOnceAndHoldsWhileTheVmmStillSpeaksOfTheOneBefore) {
  const Session session = join();
  EXPECT_TRUE(guests_.set_target("a", session, 512 * kMiB));
  EXPECT_FALSE(guests_.set_target("a", session, 512 * kMiB));
  ASSERT_EQ(channel_->asked.size(), 1U);
  guests_.balloon(session, balloon(kGiB, kGiB));
  EXPECT_EQ(guests_.find("a")->target, 512 * kMiB);
  guests_.answered(session, Request::Kind::target, channel_->asked[0].sequence, "");
  guests_.balloon(session, balloon(768 * kMiB, 512 * kMiB));
  EXPECT_EQ(guests_.find("a")->target, 512 * kMiB);
  EXPECT_EQ(guests_.find("a")->balloon.actual, 768 * kMiB);
}

TEST_F(RegistryTest, ARefusedTargetIsTakenBackCountedAndNotAskedForAgainForAWhile) {
  const Session session = join();
  ASSERT_TRUE(guests_.set_target("a", session, 512 * kMiB));
  guests_.answered(session, Request::Kind::target, channel_->asked[0].sequence, "no");
  EXPECT_EQ(guests_.find("a")->target, kGiB);
  EXPECT_EQ(guests_.find("a")->refused, 1U);
  EXPECT_FALSE(guests_.set_target("a", session, 512 * kMiB));
  EXPECT_TRUE(guests_.set_target("a", session, 600 * kMiB)) << "another target is another question";
  guests_.answered(session, Request::Kind::target, channel_->asked[1].sequence, "no");
  clock_.advance(std::chrono::seconds(10));
  EXPECT_TRUE(guests_.set_target("a", session, 600 * kMiB));
}

TEST_F(RegistryTest, ATargetIsAskedForInTheStepsOfItsHypervisor) {
  const Session session = join();
  EXPECT_TRUE(guests_.set_target("a", session, 512 * kMiB + 1));
  EXPECT_EQ(channel_->asked.back().target, 512 * kMiB + 4096) << "no less than was granted";
  EXPECT_FALSE(guests_.set_target("a", session, 512 * kMiB + 2)) << "that is the same";
}

TEST_F(RegistryTest, ABalloonThatSomebodyElseMovesIsContested) {
  const Session session = join();
  guests_.balloon(session, balloon(900 * kMiB, 900 * kMiB));
  EXPECT_FALSE(guests_.find("a")->contest) << "it is on its way to what was asked before this daemon came";
  reach(session, 800 * kMiB);
  EXPECT_FALSE(guests_.find("a")->contest);
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  const auto contest = guests_.find("a")->contest;
  ASSERT_TRUE(contest);
  EXPECT_EQ(contest->from, 800 * kMiB);
  EXPECT_EQ(contest->to, 700 * kMiB);
  EXPECT_EQ(guests_.find("a")->target, 700 * kMiB) << "what it has is what counts";
  clock_.advance(std::chrono::seconds(5));
  guests_.balloon(session, balloon(600 * kMiB, 600 * kMiB));
  EXPECT_EQ(guests_.find("a")->contest->since, contest->since);
  EXPECT_GT(guests_.find("a")->contest->noticed, contest->noticed) << "it was moved again";
  EXPECT_EQ(guests_.find("a")->contests, 2U);
  reach(session, 800 * kMiB);
  EXPECT_FALSE(guests_.find("a")->contest) << "it is ours again";
}

TEST_F(RegistryTest, ABalloonThatRestsWhereADaemonBeforeLeftItIsOurs) {
  const Session session = join();
  for (int i = 0; i < 2; ++i) guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  EXPECT_TRUE(guests_.find("a")->contest);
}

TEST_F(RegistryTest, ATargetOfBeforeThatComesLateIsNobodyElses) {
  const Session session = join();
  ASSERT_TRUE(guests_.set_target("a", session, 800 * kMiB));
  guests_.answered(session, Request::Kind::target, channel_->asked.back().sequence, "");
  guests_.balloon(session, balloon(kGiB, kGiB));
  EXPECT_FALSE(guests_.find("a")->contest);
}

TEST_F(RegistryTest, AGuestThatRebootsOrCannotBeMovedIsNotContested) {
  const Session session = join();
  reach(session, 800 * kMiB);
  BalloonState paused = balloon(700 * kMiB, 700 * kMiB);
  paused.obstacle = "it does not run: paused";
  guests_.balloon(session, paused);
  EXPECT_FALSE(guests_.find("a")->contest);
  guests_.balloon(session, balloon(2 * kGiB, 2 * kGiB, false));
  guests_.balloon(session, balloon(2 * kGiB, 2 * kGiB));
  EXPECT_FALSE(guests_.find("a")->contest);
}

TEST_F(RegistryTest, ABalloonThatGivesWayToAGuestOutOfMemoryIsNotContested) {
  const Session session = join();
  const auto grow = [&](policy::Bytes available) {
    reach(session, 800 * kMiB);
    BalloonState grown = balloon(900 * kMiB, 900 * kMiB);
    grown.deflate_on_oom = true;
    guests_.balloon(session, grown);
    EXPECT_FALSE(guests_.find("a")->contest) << "its next statistics tell";
    EXPECT_FALSE(guests_.set_target("a", session, 800 * kMiB)) << "and nothing is taken before they do";
    guests_.stats(session, test::sample(2 * kGiB, 900 * kMiB, available));
    return guests_.find("a")->contest.has_value();
  };
  EXPECT_FALSE(grow(10 * kMiB)) << "it has nothing left";
  EXPECT_FALSE(grow(300 * kMiB)) << "it had nothing left";
  EXPECT_TRUE(grow(300 * kMiB)) << "it has, and had, much";
}

TEST_F(RegistryTest, AContestNamesTheControllersThatMoveBalloonsOnThisHost) {
  tree_.write("/proc/812/comm", "momd\n");
  tree_.write("/proc/813/comm", "ksmtuned\n");
  const Session session = join();
  reach(session, 800 * kMiB);
  guests_.refresh();
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  EXPECT_FALSE(guests_.find("a")->contest->suspects) << "not looked for yet";
  guests_.refresh();
  EXPECT_EQ(guests_.find("a")->contest->suspects, "momd (process 812)") << "ksmtuned moves none";
}

TEST_F(RegistryTest, APinEndsAContest) {
  const Session session = join();
  reach(session, 800 * kMiB);
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  ASSERT_TRUE(guests_.find("a")->contest);
  ASSERT_TRUE(guests_.set_pin("a", kGiB, std::chrono::seconds(60)));
  EXPECT_FALSE(guests_.find("a")->contest) << "a person has decided since";
}

TEST_F(RegistryTest, NobodyIsAskedAfterLeaving) {
  const Session session = join();
  guests_.left(session);
  EXPECT_FALSE(guests_.set_target("a", session, 512 * kMiB));
  EXPECT_TRUE(channel_->asked.empty());
}

TEST_F(RegistryTest, NonsenseLeavesAGuestWithoutUsableStatisticsUntilItMakesSenseAgain) {
  const Session session = join();
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 100 * kMiB));
  EXPECT_TRUE(guests_.find("a")->usable);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 3 * kGiB));
  EXPECT_FALSE(guests_.find("a")->usable);
  EXPECT_FALSE(guests_.find("a")->complaint.empty());
  EXPECT_EQ(guests_.find("a")->rejected, 1U);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 100 * kMiB));
  EXPECT_TRUE(guests_.find("a")->usable);
  EXPECT_TRUE(guests_.find("a")->complaint.empty());
}

TEST_F(RegistryTest, AGuestThatRebootsMayStartItsCountersAgain) {
  const Session session = join();
  auto before = test::sample(2 * kGiB, kGiB, 100 * kMiB);
  before.major_faults = 1000;
  guests_.stats(session, before);
  guests_.balloon(session, balloon(2 * kGiB, kGiB, false));
  EXPECT_FALSE(guests_.find("a")->usable) << "what the guest said before its reboot is no longer true";
  guests_.balloon(session, balloon(2 * kGiB, kGiB, true));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 100 * kMiB));
  EXPECT_TRUE(guests_.find("a")->usable);
}

TEST_F(RegistryTest, AnActualAboveBootMemoryIsBoundAndMarked) {
  const Session session = join();
  guests_.balloon(session, balloon(100 * kGiB, 100 * kGiB));
  EXPECT_EQ(guests_.find("a")->balloon.actual, 2 * kGiB);
  EXPECT_EQ(guests_.find("a")->rejected, 1U);
}

TEST_F(RegistryTest, APinRunsOut) {
  join();
  ASSERT_TRUE(guests_.set_pin("a", kGiB, std::chrono::seconds(60)));
  clock_.advance(std::chrono::seconds(59));
  guests_.refresh();
  EXPECT_TRUE(guests_.find("a")->pin);
  clock_.advance(std::chrono::seconds(1));
  guests_.refresh();
  EXPECT_FALSE(guests_.find("a")->pin);
  EXPECT_FALSE(guests_.set_pin("nobody", kGiB, std::chrono::seconds(1)));
}

TEST_F(RegistryTest, ANewStatisticsIntervalReachesEveryGuest) {
  join();
  guests_.set_stats_interval(std::chrono::seconds(5));
  EXPECT_EQ(channel_->stats_interval, std::chrono::seconds(5));
}

TEST_F(RegistryTest, OnlyGuestsWhoseStatisticsAreOldAreAskedForFreshOnesAndOnce) {
  const Session session = join();
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 500 * kMiB));
  EXPECT_EQ(guests_.request_fresh_stats(std::chrono::milliseconds(500)), 0);
  clock_.advance(std::chrono::milliseconds(600));
  EXPECT_EQ(guests_.request_fresh_stats(std::chrono::milliseconds(500)), 1);
  EXPECT_EQ(guests_.request_fresh_stats(std::chrono::milliseconds(500)), 0) << "it has not answered yet";
  EXPECT_EQ(channel_->stats_asked.size(), 1U);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 400 * kMiB));
  EXPECT_TRUE(changes_.back().asked_for);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 400 * kMiB));
  EXPECT_FALSE(changes_.back().asked_for);
}

TEST_F(RegistryTest, AGuestThatRefusesFreshStatisticsMayBeAskedAgain) {
  const Session session = join();
  EXPECT_EQ(guests_.request_fresh_stats({}), 1);
  guests_.answered(session, Request::Kind::stats, channel_->stats_asked.back() + 1, "not this request's");
  EXPECT_EQ(guests_.request_fresh_stats({}), 0);
  guests_.answered(session, Request::Kind::stats, channel_->stats_asked.back(), "the guest is rebooting");
  EXPECT_EQ(guests_.request_fresh_stats({}), 1);
}

TEST_F(RegistryTest, KsmIsWhatTheVmmSaysItIs) {
  EXPECT_FALSE(guests_.set_merging("a", true)) << "there is no such guest";
  const Session session = join();
  ASSERT_TRUE(guests_.set_merging("a", true));
  EXPECT_FALSE(guests_.find("a")->merging) << "the VMM has not answered";
  guests_.answered(session, Request::Kind::merging, channel_->merging_asked.back().first, "");
  EXPECT_EQ(guests_.find("a")->merging, true);
  ASSERT_TRUE(guests_.set_merging("a", false));
  guests_.answered(session, Request::Kind::merging, channel_->merging_asked.back().first, "cannot");
  EXPECT_EQ(guests_.find("a")->merging, true) << "it was refused";
  EXPECT_EQ(guests_.find("a")->merging_refusal, "cannot");
  guests_.left(session);
  EXPECT_FALSE(guests_.set_merging("a", true)) << "it is not connected";
}

TEST_F(RegistryTest, AGuestThatJoinsSaysWhetherKsmMayShareItsMemory) {
  Registration registration = test::registration("a", 2 * kGiB, kGiB);
  registration.merging = true;
  const auto session = guests_.joined(registration, kVmm, channel_);
  ASSERT_TRUE(session);
  EXPECT_EQ(guests_.find("a")->merging, true);
  guests_.left(*session);
  registration.merging = false;
  ASSERT_TRUE(guests_.joined(registration, kVmm, channel_));
  EXPECT_EQ(guests_.find("a")->merging, false) << "somebody else had it switched meanwhile";
}

TEST_F(RegistryTest, AVmmIsToldOnceToKeepItsGuestFromKsmAndAgainOnlyAWhileAfterARefusal) {
  const Session session = join();
  EXPECT_TRUE(guests_.keep_from_merging("a", session)) << "it does not say how it was started";
  EXPECT_FALSE(guests_.keep_from_merging("a", session)) << "it has not answered";
  guests_.answered(session, Request::Kind::merging, channel_->merging_asked.back().first,
                   "the guest is rebooting");
  EXPECT_FALSE(guests_.keep_from_merging("a", session)) << "it refused a moment ago";
  clock_.advance(std::chrono::seconds(11));
  EXPECT_TRUE(guests_.keep_from_merging("a", session));
  guests_.answered(session, Request::Kind::merging, channel_->merging_asked.back().first, "");
  clock_.advance(std::chrono::seconds(11));
  EXPECT_FALSE(guests_.keep_from_merging("a", session)) << "it is so";
  EXPECT_FALSE(guests_.keep_from_merging("a", session + 1)) << "of another stay";
  ASSERT_EQ(channel_->merging_asked.size(), 2U);
  EXPECT_FALSE(channel_->merging_asked.back().second);
}

TEST_F(RegistryTest, WhoCannotDoWhatIsAskedIsNotAsked) {
  Registration registration = test::registration("a", 2 * kGiB, kGiB);
  registration.can = {};
  const auto session = guests_.joined(registration, kVmm, channel_);
  ASSERT_TRUE(session);
  EXPECT_EQ(guests_.request_fresh_stats({}), 0);
  EXPECT_FALSE(guests_.keep_from_merging("a", *session));
  EXPECT_TRUE(channel_->stats_asked.empty());
  EXPECT_TRUE(channel_->merging_asked.empty());
}

TEST_F(RegistryTest, TheNewestCountersOfABalloonAreKept) {
  const Session session = join();
  EXPECT_FALSE(guests_.find("a")->counters);
  BalloonCounters counters;
  counters.freed = 5 * kMiB;
  guests_.counters(session, counters);
  guests_.counters(session + 1, {});
  EXPECT_EQ(guests_.find("a")->counters->freed, 5 * kMiB);
}

TEST_F(RegistryTest, AProcessesMemoryIsThereOnceHoweverManyGuestsItRegisters) {
  tree_.process(42, "2097152");  // 2 GiB
  for (int i = 0; i < 20; ++i) join("g" + std::to_string(i));
  guests_.refresh();
  policy::Bytes resident = 0;
  for (const GuestRecord& guest : guests_.list()) resident += guest.on_host.resident;
  EXPECT_LE(resident, 2 * kGiB);
  EXPECT_GE(resident, 2 * kGiB - 20 * 4096);
}

TEST_F(RegistryTest, AGuestThatIsAloneHasAllOfItsProcess) {
  join();
  tree_.process(42, "2048");
  guests_.refresh();
  EXPECT_EQ(guests_.find("a")->on_host.resident, 2 * kMiB);
}

TEST_F(RegistryTest, WhatAProcessCannotHaveDoesNotCount) {
  tree_.write("/proc/42/maps", "7f0000000000-7f0004000000 rw-s 00000000 00:01 9 /memfd:guest\n");  // 64 MiB
  join();
  guests_.refresh();
  const Credit credit = guests_.find("a")->credit;
  EXPECT_LE(credit.counted(2 * kGiB), 72 * kMiB);
  EXPECT_GT(credit.counted(2 * kGiB), 32 * kMiB);
}

TEST_F(RegistryTest, GuestsOfOneProcessShareWhatItCanHave) {
  tree_.write("/proc/42/maps", "7f0000000000-7f0080000000 rw-s 00000000 00:01 9 /memfd:guest\n");  // 2 GiB
  for (int i = 0; i < 20; ++i) join("g" + std::to_string(i));
  join("honest", {.pid = 43, .uid = 1000});
  guests_.refresh();
  policy::Bytes counted = 0;
  for (const GuestRecord& guest : guests_.list())
    if (guest.peer.pid == 42) counted += guest.credit.counted(guest.memory);
  EXPECT_LE(counted, 2 * kGiB * 9 / 8);
  EXPECT_TRUE(guests_.find("honest")->credit.is_full());
}

TEST_F(RegistryTest, NoClaimCountsForMoreThanTheHostHas) {
  const auto session = guests_.joined(test::registration("a", 64 * 1024 * kGiB, kGiB), kVmm, channel_);
  ASSERT_TRUE(session);
  guests_.refresh(8 * kGiB);
  EXPECT_LE(guests_.find("a")->credit.counted(64 * 1024 * kGiB), 9 * kGiB);
}

TEST_F(RegistryTest, AProcessThatMapsItsGuestsMemoryLaterIsBelievedThen) {
  tree_.write("/proc/42/maps", "7f0000000000-7f0004000000 rw-s 00000000 00:01 9 /memfd:guest\n");
  join();
  guests_.refresh();
  EXPECT_FALSE(guests_.find("a")->credit.is_full());
  tree_.write("/proc/42/maps", "7f0000000000-7f0080000000 rw-s 00000000 00:01 9 /memfd:guest\n");
  tree_.write("/proc/42/status", "Name:\tballoon-vmm\nState:\tS (sleeping)\nVmSize:\t 2097152 kB\n");
  guests_.refresh();
  EXPECT_FALSE(guests_.find("a")->credit.is_full()) << "mappings are read once a second";
  clock_.advance(std::chrono::seconds(1));
  guests_.refresh();
  EXPECT_TRUE(guests_.find("a")->credit.is_full());
}

TEST_F(RegistryTest, WhatAProcessReadStandsInForAHypervisorThatNeverCounts) {
  const auto reads = [this](int mib) {
    tree_.write("/proc/42/io", "read_bytes: " + std::to_string(mib * kMiB) + "\n");
    guests_.refresh();
  };
  const auto session = join();
  reads(100);
  reads(130);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  EXPECT_EQ(guests_.find("a")->usable->disk_read, 30 * kMiB);

  StatsSample counted = test::sample(2 * kGiB, kGiB, 300 * kMiB);
  counted.disk_read = 7 * kGiB;
  guests_.stats(session, counted);
  EXPECT_EQ(guests_.find("a")->usable->disk_read, 7 * kGiB);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  EXPECT_EQ(guests_.find("a")->usable->disk_read, std::nullopt) << "another source's count would be a jump";
}

TEST_F(RegistryTest, WhatAProcessOfTwoGuestsReadIsNobodys) {
  const auto session = join();
  join("b");
  for (const int mib : {100, 130}) {
    tree_.write("/proc/42/io", "read_bytes: " + std::to_string(mib * kMiB) + "\n");
    guests_.refresh();
  }
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  EXPECT_EQ(guests_.find("a")->usable->disk_read, std::nullopt);
}

}  // namespace
}  // namespace balloon::daemon
