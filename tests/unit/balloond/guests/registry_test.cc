// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/registry.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/unit/balloond/guests/registry_fixture.h"

namespace balloon::daemon {
namespace {

using Kind = JoinRefusal::Kind;

TEST_F(RegistryTest, AGuestThatJoinsIsTakenAsItIs) {
  Registration registration = test::registration("a", 2 * kGiB, kGiB);
  registration.vcpus = 3;
  ASSERT_TRUE(guests_.joined(registration, kVmm, channel_));
  const auto guest = guests_.find("a");
  ASSERT_TRUE(guest);
  EXPECT_EQ(guest->balloon.actual, kGiB);
  EXPECT_EQ(guest->target, kGiB);
  EXPECT_EQ(guest->on_host.resident, kMiB);
  EXPECT_EQ(guest->peer.pid, 42);
  EXPECT_EQ(guest->vcpus, 3U);
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

TEST_F(RegistryTest, PolicyCanTellGuestsByTheirHypervisors) {
  Registration guest = test::registration("a", 2 * kGiB, kGiB);
  guest.hypervisor = "balloon-vmm";
  guest.labels = {{"tier", "db"}, {"hypervisor", "a lie"}};
  ASSERT_TRUE(guests_.joined(guest, kVmm, channel_));
  const auto joined = guests_.find("a");
  ASSERT_TRUE(joined);
  EXPECT_EQ(joined->labels.at("hypervisor"), "balloon-vmm");
  EXPECT_EQ(joined->labels.at("tier"), "db");
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

TEST_F(RegistryTest, WhatAHypervisorDoesNotSayOfItsTimeIsNotCounted) {
  Registration seen = test::registration("a", 2 * kGiB, kGiB);
  seen.hypervisor = "qemu";
  const auto session = guests_.joined(seen, kVmm, channel_);
  ASSERT_TRUE(session);
  guests_.stats(*session, test::sample(2 * kGiB, kGiB, kGiB / 2));
  for (const std::uint64_t count : guests_.requests()[1].stats.counts()) EXPECT_EQ(count, 0U);
  const Session of_another = join("b", {.pid = 43, .uid = 0});
  StatsSample sample = test::sample(2 * kGiB, kGiB, kGiB / 2);
  sample.round_trip = std::chrono::seconds(1);
  guests_.stats(of_another, sample);
  for (const RequestCounters& each : guests_.requests()) EXPECT_EQ(each.stats.sum(), 0);
}

TEST_F(RegistryTest, GuestsOfTwoBackendsThatShowNoProcessAndNoUuidAreTwo) {
  Registration seen = test::registration("a", 2 * kGiB, kGiB);
  seen.hypervisor = "qemu";
  seen.labels["uuid"] = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31";
  ASSERT_TRUE(guests_.joined(seen, Peer{}, channel_));
  seen = test::registration("b", 2 * kGiB, kGiB);
  seen.hypervisor = "libvirt";
  EXPECT_TRUE(guests_.joined(seen, Peer{}, channel_));
  seen = test::registration("c", 2 * kGiB, kGiB);
  seen.hypervisor = "qemu";
  seen.labels["uuid"] = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c32";
  EXPECT_TRUE(guests_.joined(seen, Peer{}, channel_));
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
  EXPECT_TRUE(guests_.joined(seen, {.pid = 43, .uid = 0}, channel_)) << "another process is another guest";
}

TEST_F(RegistryTest, AGuestThatItsBackendNoLongerSeesIsTakenOverByTheOtherOneAndCountsOnce) {
  const auto names = [this] {
    guests_.refresh();
    std::vector<std::string> found;
    for (const GuestRecord& guest : guests_.list()) found.push_back(guest.name);
    return found;
  };
  Registration by_qmp = test::registration("web", 2 * kGiB, kGiB);
  by_qmp.hypervisor = "qemu";
  Registration by_libvirt = test::registration("web-1", 2 * kGiB, kGiB);
  by_libvirt.hypervisor = "libvirt";
  const auto first = guests_.joined(by_qmp, kVmm, channel_);
  ASSERT_TRUE(first);
  ASSERT_TRUE(guests_.set_pin("web", 768 * kMiB, std::chrono::minutes(1)));
  EXPECT_FALSE(guests_.joined(by_libvirt, kVmm, channel_));
  guests_.left(*first);
  EXPECT_EQ(names(), std::vector<std::string>{"web"});
  const auto second = guests_.joined(by_libvirt, kVmm, channel_);
  ASSERT_TRUE(second) << second.error().reason;
  EXPECT_EQ(names(), std::vector<std::string>{"web-1"});
  ASSERT_TRUE(guests_.find("web-1")->pin) << "it is the same guest";
  EXPECT_EQ(guests_.find("web-1")->pin->target, 768 * kMiB);
  guests_.left(*first);
  EXPECT_TRUE(guests_.find("web-1")->connected) << "the former's news are nobody's";
  EXPECT_FALSE(guests_.joined(by_qmp, kVmm, channel_));
  guests_.left(*second);
  by_qmp.name = "web-1";
  EXPECT_TRUE(guests_.joined(by_qmp, kVmm, channel_)) << "and back, by the same name";
  EXPECT_EQ(names(), std::vector<std::string>{"web-1"});
  EXPECT_TRUE(guests_.find("web-1")->pin);
}

TEST_F(RegistryTest, AGuestIsTakenOverThoughOneOfItsNewNameIsKeptThatIsGone) {
  Registration seen = test::registration("b", 2 * kGiB, kGiB);
  seen.hypervisor = "qemu";
  const auto gone = guests_.joined(seen, {.pid = 43, .uid = 0}, channel_);
  ASSERT_TRUE(gone);
  seen.name = "a";
  const auto first = guests_.joined(seen, kVmm, channel_);
  ASSERT_TRUE(first);
  guests_.left(*gone);
  guests_.left(*first);
  tree_.end_process(43);
  seen.name = "b";
  seen.hypervisor = "libvirt";
  ASSERT_TRUE(guests_.joined(seen, kVmm, channel_));
  EXPECT_EQ(guests_.list().size(), 1U);
}

TEST_F(RegistryTest, AGuestThatLeftAndWhoseProcessOneBackendDoesNotSeeIsNotTakenOver) {
  Registration seen = test::registration("a", 2 * kGiB, kGiB);
  seen.hypervisor = "qemu";
  seen.labels["uuid"] = "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31";
  const auto first = guests_.joined(seen, kVmm, channel_);
  ASSERT_TRUE(first);
  guests_.left(*first);
  seen.name = "b";
  seen.hypervisor = "libvirt";
  EXPECT_FALSE(guests_.joined(seen, Peer{}, channel_)) << "what its process holds would not be counted";
  EXPECT_FALSE(guests_.joined(seen, {.pid = 43, .uid = 0}, channel_)) << "nor where there are two of them";
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

TEST_F(RegistryTest, AVmmThatOwesAnAnswerToATargetFor10sIsNamedUntilItAnswers) {
  const Session session = join();
  const auto unanswered = [this] {
    guests_.refresh();
    return guests_.find("a")->unanswered;
  };
  ASSERT_TRUE(guests_.set_target("a", session, 768 * kMiB));
  const Time asked_at = clock_.now();
  clock_.advance(std::chrono::seconds(6));
  ASSERT_TRUE(guests_.set_target("a", session, 512 * kMiB))
      << "and another one, which it does not answer either";
  EXPECT_FALSE(unanswered());
  clock_.advance(std::chrono::seconds(4));
  EXPECT_EQ(unanswered(), asked_at);
  clock_.advance(std::chrono::seconds(4));
  EXPECT_EQ(unanswered(), asked_at);
  guests_.answered(session, Request::Kind::target, channel_->asked.back().sequence, "");
  EXPECT_FALSE(unanswered());
  ASSERT_TRUE(guests_.set_target("a", session, kGiB));
  EXPECT_FALSE(unanswered()) << "it has 10 s for each";
  clock_.advance(std::chrono::seconds(10));
  EXPECT_TRUE(unanswered());
  guests_.left(session);
  EXPECT_FALSE(unanswered()) << "it is not there to answer";
}

TEST_F(RegistryTest, ATargetIsAskedForInTheStepsOfItsHypervisor) {
  const Session session = join();
  EXPECT_TRUE(guests_.set_target("a", session, 512 * kMiB + Bytes{1}));
  EXPECT_EQ(channel_->asked.back().target, 512 * kMiB + kPageSize) << "no less than was granted";
  EXPECT_FALSE(guests_.set_target("a", session, 512 * kMiB + Bytes{2})) << "that is the same";
}

TEST_F(RegistryTest, AStepThatGoesBeyondBootMemoryEndsThere) {
  Registration uneven = test::registration("a", 2 * kGiB + 512 * kMiB, kGiB);
  uneven.can.granularity = kGiB;
  const auto session = guests_.joined(uneven, kVmm, channel_);
  ASSERT_TRUE(session);
  EXPECT_TRUE(guests_.set_target("a", *session, 2 * kGiB + Bytes{1}));
  EXPECT_EQ(channel_->asked.back().target, 2 * kGiB + 512 * kMiB);
  EXPECT_TRUE(guests_.set_target("a", *session, 2 * kGiB));
  EXPECT_EQ(channel_->asked.back().target, 2 * kGiB);
}

TEST_F(RegistryTest, AHypervisorThatNamesNoStepsTakesAnySize) {
  Registration any = test::registration("a", 2 * kGiB, kGiB);
  any.can.granularity = Bytes{0};
  const auto session = guests_.joined(any, kVmm, channel_);
  ASSERT_TRUE(session);
  EXPECT_TRUE(guests_.set_target("a", *session, 512 * kMiB + Bytes{1}));
  EXPECT_EQ(channel_->asked.back().target, 512 * kMiB + Bytes{1});
}

TEST_F(RegistryTest, NobodyIsAskedAfterLeaving) {
  const Session session = join();
  guests_.left(session);
  EXPECT_EQ(changes_.back().kind, GuestChange::Kind::left);
  EXPECT_EQ(changes_.back().process, 42);
  EXPECT_FALSE(guests_.set_target("a", session, 512 * kMiB));
  EXPECT_EQ(guests_.request_fresh_stats({}), 0);
  EXPECT_FALSE(guests_.keep_from_merging("a", session));
  guests_.set_stats_interval(std::chrono::seconds(5));
  EXPECT_TRUE(channel_->asked.empty());
  EXPECT_TRUE(channel_->stats_asked.empty());
  EXPECT_TRUE(channel_->merging_asked.empty());
  EXPECT_EQ(channel_->stats_interval, std::chrono::seconds(0));
}

TEST_F(RegistryTest, NobodyIsAskedUnderAnothersName) {
  const Session session = join();
  EXPECT_FALSE(guests_.set_target("b", session, 512 * kMiB));
  EXPECT_FALSE(guests_.keep_from_merging("b", session));
  EXPECT_FALSE(guests_.set_target("a", session + 1, 512 * kMiB));
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
  EXPECT_EQ(changes_.back().kind, GuestChange::Kind::balloon_moved);
  EXPECT_FALSE(guests_.find("a")->usable) << "what the guest said before its reboot is no longer true";
  EXPECT_FALSE(guests_.find("a")->said);
  clock_.advance(std::chrono::seconds(5));
  guests_.balloon(session, balloon(2 * kGiB, kGiB, true));
  EXPECT_EQ(changes_.back().kind, GuestChange::Kind::joined) << "it is worth a look";
  EXPECT_EQ(guests_.find("a")->ready_since, clock_.now());
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 100 * kMiB));
  ASSERT_TRUE(guests_.find("a")->usable);
  EXPECT_EQ(guests_.find("a")->usable->major_faults, 1U) << "that is not less than before";
}

TEST_F(RegistryTest, AGuestThatTalkedNonsenseIsBelievedAgainAfterItsReboot) {
  const Session session = join();
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 3 * kGiB));
  EXPECT_FALSE(guests_.find("a")->complaint.empty());
  guests_.balloon(session, balloon(2 * kGiB, kGiB, false));
  EXPECT_EQ(guests_.find("a")->complaint, "");
}

TEST_F(RegistryTest, AnActualAboveBootMemoryIsBoundAndMarked) {
  const auto joined =
      guests_.joined(test::registration("b", kGiB, 3 * kGiB), {.pid = 43, .uid = 0}, channel_);
  ASSERT_TRUE(joined);
  EXPECT_EQ(guests_.find("b")->balloon.actual, kGiB);
  EXPECT_EQ(guests_.find("b")->rejected, 1U);
  const Session session = join();
  EXPECT_EQ(guests_.find("a")->rejected, 0U);
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

TEST_F(RegistryTest, APinThatHasRunOutIsNotWrittenDownThoughNobodyHasLookedSince) {
  join();
  guests_.await_pins(
      {{"b", PinRecord{.target = kMiB, .expires = clock_.now() + std::chrono::seconds(60), .until = {}}}});
  ASSERT_TRUE(guests_.set_pin("a", kGiB, std::chrono::seconds(60)));
  EXPECT_EQ(guests_.pins(), (std::map<std::string, Bytes>{{"a", kGiB}}));
  EXPECT_EQ(guests_.all_pins().size(), 2U);
  clock_.advance(std::chrono::seconds(60));
  EXPECT_TRUE(guests_.all_pins().empty());
  EXPECT_TRUE(guests_.clear_pin("a"));
  EXPECT_TRUE(guests_.pins().empty());
}

TEST_F(RegistryTest, NewsOfAStayThatIsOverAreNobodys) {
  const Session session = join();
  guests_.left(session);
  tree_.end_process(42);
  guests_.refresh();
  ASSERT_FALSE(guests_.find("a"));
  changes_.clear();
  guests_.stats(session, test::sample(2 * kGiB, kGiB, kGiB));
  guests_.balloon(session, balloon(kGiB, kGiB));
  guests_.counters(session, {});
  guests_.answered(session, Request::Kind::target, 1, "");
  guests_.left(session);
  EXPECT_TRUE(changes_.empty());
}

TEST_F(RegistryTest, ANewStatisticsIntervalReachesEveryGuest) {
  join();
  EXPECT_EQ(guests_.stats_interval(), std::chrono::seconds(1));
  guests_.set_stats_interval(std::chrono::seconds(5));
  EXPECT_EQ(channel_->stats_interval, std::chrono::seconds(5));
  EXPECT_EQ(guests_.stats_interval(), std::chrono::seconds(5));
  channel_->stats_interval = {};
  guests_.set_stats_interval(std::chrono::seconds(5));
  EXPECT_EQ(channel_->stats_interval, std::chrono::seconds(0)) << "it is not new";
}

TEST_F(RegistryTest, WhoTakesPartInAPinIsTold) {
  join();
  for (const auto& change :
       {std::function<void()>([this] { guests_.set_pin("a", kGiB, std::chrono::seconds(9)); }),
        std::function<void()>([this] { guests_.clear_pin("a"); }), std::function<void()>([this] {
          guests_.undo_pin("a", {}, PinRecord{.target = Bytes{5}, .expires = {}, .until = {}});
        })}) {
    changes_.clear();
    change();
    ASSERT_EQ(changes_.size(), 1U);
    EXPECT_EQ(changes_[0].kind, GuestChange::Kind::pin);
  }
  EXPECT_EQ(guests_.find("a")->pin->target, Bytes{5});
  guests_.undo_pin("a", {}, {});
  EXPECT_TRUE(guests_.find("a")->pin) << "there is another one by now";
  EXPECT_FALSE(guests_.clear_pin("nobody"));
  guests_.undo_pin("nobody", {}, {});
  EXPECT_EQ(changes_.size(), 1U);
}

TEST_F(RegistryTest, OnlyGuestsWhoseStatisticsAreOldAreAskedForFreshOnesAndOnce) {
  const Session session = join();
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 500 * kMiB));
  EXPECT_EQ(guests_.request_fresh_stats(std::chrono::milliseconds(500)), 0);
  clock_.advance(std::chrono::milliseconds(500));
  EXPECT_EQ(guests_.request_fresh_stats(std::chrono::milliseconds(500)), 0) << "they are not older than that";
  clock_.advance(std::chrono::milliseconds(1));
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
  guests_.answered(session, Request::Kind::stats, channel_->stats_asked.back(), "");
  EXPECT_EQ(guests_.request_fresh_stats({}), 0) << "only statistics are an answer";
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
  clock_.advance(std::chrono::seconds(10));
  EXPECT_TRUE(guests_.keep_from_merging("a", session));
  guests_.answered(session, Request::Kind::merging, channel_->merging_asked.back().first, "");
  clock_.advance(std::chrono::seconds(11));
  EXPECT_FALSE(guests_.keep_from_merging("a", session)) << "it is so";
  EXPECT_FALSE(guests_.keep_from_merging("a", session + 1)) << "of another stay";
  ASSERT_EQ(channel_->merging_asked.size(), 2U);
  EXPECT_FALSE(channel_->merging_asked.back().second);
}

TEST_F(RegistryTest, AVmmThatIsToldToShareItsGuestWithKsmIsToldOtherwiseAtOnce) {
  const Session session = join();
  ASSERT_TRUE(guests_.set_merging("a", true));
  EXPECT_TRUE(guests_.keep_from_merging("a", session)) << "what is under way is the opposite";
  EXPECT_FALSE(channel_->merging_asked.back().second);
}

TEST_F(RegistryTest, AGuestWhoseDriverGivesNoStatisticsIsNotAskedForThem) {
  const Session session = join();
  guests_.balloon(session, balloon(kGiB, kGiB));  // without has_stats
  EXPECT_EQ(guests_.request_fresh_stats({}), 0);
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

TEST_F(RegistryTest, RequestsOfAKindAreNumberedOneAfterTheOther) {
  const Session session = join();
  for (std::uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(guests_.set_target("a", session, kGiB - i * kMiB));
    EXPECT_EQ(channel_->asked.back().sequence, i);
  }
}

TEST_F(RegistryTest, ATargetThatWasRefusedMayBeAskedForAgainAfterAnotherOne) {
  const Session session = join();
  ASSERT_TRUE(guests_.set_target("a", session, 512 * kMiB));
  guests_.answered(session, Request::Kind::target, 1, "no");
  ASSERT_TRUE(guests_.set_target("a", session, 600 * kMiB));
  EXPECT_TRUE(guests_.set_target("a", session, 512 * kMiB));
}

TEST_F(RegistryTest, StatisticsAreToldWithThoseBeforeThem) {
  const Session session = join();
  StatsSample sample = test::sample(2 * kGiB, kGiB, 100 * kMiB);
  guests_.stats(session, sample);
  ASSERT_TRUE(changes_.back().use);
  EXPECT_FALSE(changes_.back().use->used_before);
  sample.available = 50 * kMiB;
  guests_.stats(session, sample);
  EXPECT_EQ(changes_.back().use->available, 50 * kMiB);
  EXPECT_EQ(changes_.back().use->used_before, kGiB - 100 * kMiB);
  sample.available = Bytes::max();  // its driver does not know it
  guests_.stats(session, sample);
  EXPECT_FALSE(guests_.find("a")->said->available);
  EXPECT_FALSE(changes_.back().use);
  EXPECT_EQ(changes_.back().use_before->available, 50 * kMiB);
}

TEST_F(RegistryTest, ABalloonWhoseDriverIsUpOnlyMoves) {
  const Session session = join();
  guests_.balloon(session, balloon(kGiB - kMiB, kGiB));
  EXPECT_EQ(changes_.back().kind, GuestChange::Kind::balloon_moved);
  guests_.answered(session + 1, Request::Kind::target, 1, "");  // nobody's
}

}  // namespace
}  // namespace balloon::daemon
