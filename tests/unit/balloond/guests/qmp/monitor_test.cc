// SPDX-License-Identifier: Apache-2.0
// One socket and the guest behind it, with a QEMU that says what the test has it say.
#include "balloond/guests/qmp/monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/pages.h"
#include "policy/rules/values.h"
#include "tests/unit/balloond/fakes.h"
#include "tests/unit/balloond/guests/qmp/fake_qemu.h"
#include "tests/unit/balloond/guests/told.h"

namespace balloon::daemon::qmp {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

class MonitorTest : public testing::Test {
 protected:
  std::unique_ptr<Monitor> monitor(Use use) const {
    return std::make_unique<Monitor>(surroundings_, path_, std::move(use));
  }
  void have_own_socket() { monitor_ = monitor({.exclusive = true}); }
  void share_socket() { monitor_ = monitor({.exclusive = false}); }
  /// Lets both talk until neither has anything to say.
  void talk() {
    while (qemu_->serve()) monitor_->on_readable();
  }
  /// A round at once.
  void look() {
    monitor_->on_time();
    talk();
  }
  std::chrono::nanoseconds wait() const { return monitor_->due() - clock_.now(); }
  /// Lets the time pass until the monitor is due, and has it look; returns how long that was.
  std::chrono::nanoseconds look_when_due() {
    const auto waited = wait();
    clock_.advance(waited);
    look();
    return waited;
  }
  void statistics(Bytes available) {
    const auto now = std::chrono::floor<std::chrono::seconds>(clock_.wall().time_since_epoch());
    qemu_->answers["qom-get guest-stats"] =
        FakeQemu::statistics(static_cast<std::uint64_t>(now.count()), available.count());
  }
  void size(Bytes actual) { qemu_->answers["query-balloon"] = {{"actual", actual.count()}}; }
  void ask(Bytes target) {
    told_.channel->ask({.kind = Request::Kind::target, .sequence = ++sequence_, .target = target});
    monitor_->on_mail();
  }
  void ask_for_statistics() {
    told_.channel->ask({.kind = Request::Kind::stats, .sequence = 1});
    monitor_->on_mail();
  }

  test::FakeTree tree_;
  test::FakeClock clock_;
  test::Told told_;
  BackendHealth health_;
  std::vector<pid_t> managed_;
  int wakes_ = 0;
  Surroundings surroundings_{
      .clock = clock_,
      .guests = told_,
      .wake = [this] { ++wakes_; },
      .is_managed = [this](pid_t pid, const std::string&) { return std::ranges::count(managed_, pid) > 0; },
      .health = health_,
      .stats_interval = 1s};
  std::uint64_t sequence_ = 0;
  const std::string path_ = tree_.root() + "/100.qmp";
  std::unique_ptr<FakeQemu> qemu_ = std::make_unique<FakeQemu>(path_);
  std::unique_ptr<Monitor> monitor_;
};

TEST_F(MonitorTest, AGuestIsIntroducedWithWhatItsSocketCanDo) {
  have_own_socket();
  EXPECT_EQ(wait(), 0s) << "it is tried at once";
  EXPECT_EQ(monitor_->fd(), -1);
  monitor_->on_mail();
  monitor_->on_readable();
  EXPECT_EQ(wait(), 0s) << "what is others' does not matter";
  look();
  ASSERT_EQ(told_.guests.size(), 1U);
  const Registration& guest = told_.guests.front();
  EXPECT_EQ(guest.name, "web");
  EXPECT_EQ(guest.version, "QEMU 7.2.22");
  EXPECT_EQ(guest.labels.at("socket"), "100");
  EXPECT_EQ(guest.memory, 512 * kMiB);
  EXPECT_TRUE(guest.balloon->driver_ready);
  EXPECT_EQ(guest.can,
            (Capabilities{.statistics = true, .events = true, .reporting = true, .disk_reads = true}));
  EXPECT_EQ(told_.peer.pid, ::getpid());
  EXPECT_EQ(told_.peer.uid, ::getuid());
  EXPECT_EQ(monitor_->guest_pid(), ::getpid());
  EXPECT_TRUE(monitor_->has_guest());
  EXPECT_FALSE(monitor_->failing());
  EXPECT_GE(monitor_->fd(), 0);
  EXPECT_EQ(health_.errors, 0U);
  monitor_.reset();
  EXPECT_EQ(told_.leavings, 1);
}

TEST_F(MonitorTest, AGuestOfASharedSocketIsAskedOnDemandAndItsSocketGivenBack) {
  share_socket();
  look();
  ASSERT_EQ(told_.guests.size(), 1U);
  EXPECT_TRUE(told_.guests.front().can.on_demand);
  EXPECT_FALSE(told_.guests.front().can.events);
  EXPECT_EQ(monitor_->fd(), -1);
  EXPECT_FALSE(qemu_->has_client());
  EXPECT_TRUE(monitor_->has_guest());
  EXPECT_EQ(told_.leavings, 0);
}

TEST_F(MonitorTest, OnOurOwnSocketAGuestIsAskedOnceInItsIntervalAndSeldomForAll) {
  have_own_socket();
  look();
  EXPECT_EQ(qemu_->times_asked("query-name"), 1);
  EXPECT_EQ(qemu_->times_asked("qom-get guest-stats-polling-interval"), 1);
  for (int i = 1; i <= 10; ++i) {
    EXPECT_EQ(qemu_->times_asked("qom-get guest-stats-polling-interval"), 0) << i;
    EXPECT_EQ(look_when_due(), 1s) << i;
    EXPECT_EQ(qemu_->times_asked("query-balloon"), i == 1 ? 2 : 1) << i;
  }
  EXPECT_EQ(qemu_->times_asked("qom-get guest-stats-polling-interval"), 1) << "after 10 s";
  EXPECT_EQ(qemu_->times_asked("query-name"), 0);
  EXPECT_EQ(qemu_->greeted, 1);
}

TEST_F(MonitorTest, BeforeItIsDueNobodyIsAsked) {
  have_own_socket();
  look();
  qemu_->asked.clear();
  clock_.advance(999ms);
  look();
  EXPECT_THAT(qemu_->asked, IsEmpty());
  clock_.advance(1ms);
  look();
  EXPECT_EQ(qemu_->times_asked("query-status"), 1);
}

TEST_F(MonitorTest, TheIntervalOfStatisticsIsSetAndFollowsWhatIsConfigured) {
  have_own_socket();
  look();
  ASSERT_EQ(qemu_->arguments.size(), 1U);
  EXPECT_EQ(qemu_->arguments[0].at("value"), 1);
  told_.channel->set_stats_interval(2500ms);
  EXPECT_EQ(wakes_, 1);
  monitor_->on_mail();
  qemu_->answers["qom-get guest-stats-polling-interval"] = 1U;
  EXPECT_EQ(look_when_due(), 1s);
  ASSERT_EQ(qemu_->arguments.size(), 2U) << "it is asked for at once";
  EXPECT_EQ(qemu_->arguments[1].at("value"), 3) << "in whole seconds";
  EXPECT_EQ(wait(), 2500ms);
}

TEST_F(MonitorTest, StatisticsAreToldOnceWithWhatTheDisksReadAndHowLongItTook) {
  have_own_socket();
  monitor_->on_time();
  qemu_->greet();
  monitor_->on_readable();
  for (int i = 0; i < 2; ++i) {  // negotiation, and who it is
    qemu_->answer();
    monitor_->on_readable();
  }
  ASSERT_TRUE(qemu_->answer(/*at_most=*/2));
  clock_.advance(30ms);
  monitor_->on_readable();
  clock_.advance(30ms);
  talk();
  ASSERT_EQ(told_.samples.size(), 1U);
  EXPECT_EQ(told_.samples[0].available, 200 * kMiB);
  EXPECT_EQ(told_.samples[0].actual, 512 * kMiB);
  EXPECT_EQ(told_.samples[0].disk_read, Bytes{4096});
  EXPECT_EQ(told_.samples[0].round_trip, 30ms);
  look_when_due();
  EXPECT_EQ(told_.samples.size(), 1U) << "they are the same";
  statistics(100 * kMiB);
  look_when_due();
  ASSERT_EQ(told_.samples.size(), 2U);
  EXPECT_EQ(told_.samples[1].available, 100 * kMiB);
  EXPECT_EQ(told_.balloons, 0) << "nothing else is new";
}

TEST_F(MonitorTest, StatisticsOfAGuestWhoseDriverIsDownAreNotTold) {
  have_own_socket();
  qemu_->answers["x-query-virtio-status"]["status"]["statuses"] = json::array();
  look();
  EXPECT_TRUE(monitor_->has_guest());
  EXPECT_THAT(told_.samples, IsEmpty());
}

TEST_F(MonitorTest, ATargetIsAskedForAtOnceAndItsBalloonFollowed) {
  have_own_socket();
  look();
  qemu_->arguments.clear();
  ask(300 * kMiB + Bytes{1});
  talk();
  ASSERT_EQ(qemu_->arguments.size(), 1U);
  EXPECT_EQ(qemu_->arguments[0].at("value"), (300 * kMiB + kPageSize).count()) << "no less than was granted";
  EXPECT_THAT(told_.answers, ElementsAre(""));
  EXPECT_EQ(told_.answered_kind, Request::Kind::target);
  EXPECT_EQ(told_.answered_sequence, 1U);
  EXPECT_EQ(wait(), 250ms);
  qemu_->happen("BALLOON_CHANGE", {{"actual", 400 << 20}});
  monitor_->on_readable();
  EXPECT_EQ(told_.balloon_now.actual, 400 * kMiB) << "its event is told at once";
  EXPECT_EQ(told_.balloon_now.target, 300 * kMiB + kPageSize);
  size(400 * kMiB);
  EXPECT_EQ(look_when_due(), 250ms);
  EXPECT_EQ(wait(), 250ms) << "while it moves it is looked at often";
  for (int i = 0; i < 11; ++i) EXPECT_EQ(look_when_due(), 250ms) << i;
  EXPECT_EQ(wait(), 1s) << "it rests since 3 s";
  EXPECT_EQ(told_.leavings, 0);
}

TEST_F(MonitorTest, WhereABalloonWasWhenItsTargetWasAskedForIsNoSignOfOtherHands) {
  have_own_socket();
  look();
  ask(300 * kMiB);
  talk();
  qemu_->happen("BALLOON_CHANGE", {{"actual", 450 << 20}});
  monitor_->on_readable();
  ask(440 * kMiB);
  talk();
  qemu_->happen("STOP");
  qemu_->happen("RESUME");
  monitor_->on_readable();
  qemu_->happen("BALLOON_CHANGE", {{"actual", 400 << 20}});  // where it had come to before it heard
  monitor_->on_readable();
  EXPECT_EQ(told_.balloon_now.target, 440 * kMiB);
}

TEST_F(MonitorTest, WhileATargetHasNoAnswerNoRoundBegins) {
  have_own_socket();
  look();
  qemu_->hangs_at = "balloon";
  ask(300 * kMiB);
  talk();
  EXPECT_EQ(wait(), 5s);
  qemu_->asked.clear();
  clock_.advance(1s);
  monitor_->on_time();
  qemu_->hangs_at.clear();
  qemu_->answer();
  EXPECT_THAT(qemu_->asked, ElementsAre("balloon"));
}

TEST_F(MonitorTest, AnEventOfABalloonThatMovesBringsTheNextLookForward) {
  have_own_socket();
  look();
  clock_.advance(100ms);
  qemu_->happen("BALLOON_CHANGE", {{"actual", 500 << 20}});
  monitor_->on_readable();
  EXPECT_EQ(wait(), 250ms);
  clock_.advance(100ms);
  qemu_->happen("STOP");
  monitor_->on_readable();
  EXPECT_EQ(wait(), 150ms) << "and does not put it off";
  EXPECT_EQ(told_.balloon_now.obstacle, "it does not run: paused");
}

TEST_F(MonitorTest, AnEventOfABalloonAtRestBringsNothingForward) {
  have_own_socket();
  look();
  qemu_->happen("STOP");
  monitor_->on_readable();
  EXPECT_EQ(wait(), 1s);
}

TEST_F(MonitorTest, AnEventInTheMiddleOfARoundIsToldAtItsEnd) {
  have_own_socket();
  look();
  clock_.advance(1s);
  monitor_->on_time();
  qemu_->happen("BALLOON_CHANGE", {{"actual", 400 << 20}});
  monitor_->on_readable();
  EXPECT_EQ(told_.balloons, 0);
  size(400 * kMiB);
  talk();
  EXPECT_EQ(told_.balloons, 1);
  EXPECT_EQ(told_.balloon_now.actual, 400 * kMiB);
}

TEST_F(MonitorTest, WhatQemuRefusesIsAnsweredInItsWords) {
  have_own_socket();
  look();
  qemu_->refusals["balloon"] = "KVM is missing";
  ask(300 * kMiB);
  talk();
  EXPECT_THAT(told_.answers, ElementsAre("KVM is missing"));
  EXPECT_EQ(wait(), 1s) << "nothing moves";
  qemu_->happen("BALLOON_CHANGE", {{"actual", 500 << 20}});
  monitor_->on_readable();
  EXPECT_EQ(told_.balloon_now.target, 500 * kMiB) << "it was never our target";
}

TEST_F(MonitorTest, AGuestThatMustNotBeMovedIsNotAsked) {
  have_own_socket();
  qemu_->answers["query-status"] = {{"status", "paused"}, {"running", false}};
  look();
  ask(300 * kMiB);
  talk();
  EXPECT_EQ(qemu_->times_asked("balloon"), 0);
  EXPECT_THAT(told_.answers, ElementsAre("it does not run: paused"));
  EXPECT_EQ(told_.answered_sequence, 1U);
}

TEST_F(MonitorTest, KsmIsNotSwitchedForGuestsOfQemu) {
  have_own_socket();
  look();
  told_.channel->ask({.kind = Request::Kind::merging, .sequence = 7, .merging = false});
  monitor_->on_mail();
  EXPECT_THAT(told_.answers, ElementsAre("balloond does not switch KSM for guests of QEMU"));
  EXPECT_EQ(told_.answered_kind, Request::Kind::merging);
  EXPECT_EQ(told_.answered_sequence, 7U);
}

TEST_F(MonitorTest, ASharedSocketIsTakenEvery8sAtRestAndEvery2sWhileSomethingHappens) {
  share_socket();
  look();
  EXPECT_EQ(wait(), 8s);
  statistics(200 * kMiB);
  EXPECT_EQ(look_when_due(), 8s);
  EXPECT_EQ(wait(), 8s);
  ask(300 * kMiB);
  EXPECT_EQ(wait(), 2s) << "a target";
  look_when_due();
  EXPECT_THAT(told_.answers, ElementsAre(""));
  for (int i = 0; i < 15; ++i) EXPECT_EQ(look_when_due(), 2s) << "it is looked after for 30 s: " << i;
  EXPECT_EQ(wait(), 8s) << "though it has not moved";
  EXPECT_EQ(told_.leavings, 0);
}

TEST_F(MonitorTest, ATargetOfASharedSocketThatWaitedLongIsAskedForAtOnce) {
  share_socket();
  look();
  clock_.advance(3s);
  ask(300 * kMiB);
  EXPECT_EQ(wait(), 0s);
  look();
  size(300 * kMiB);
  look_when_due();
  EXPECT_EQ(wait(), 2s) << "it has just moved";
  look_when_due();
  look_when_due();
  EXPECT_EQ(wait(), 8s) << "it is there";
}

TEST_F(MonitorTest, WhileTheHostIsShortOfMemoryASharedSocketIsTakenMoreOften) {
  share_socket();
  look();
  ask_for_statistics();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(look_when_due(), 2s) << i;
  EXPECT_EQ(wait(), 8s) << "10 s after the host asked";
}

TEST_F(MonitorTest, AGuestOfASharedSocketThatIsNearlyOutOfMemoryIsLookedAtMoreOften) {
  share_socket();
  statistics(60 * kMiB);
  look();
  EXPECT_EQ(wait(), 2s) << "less than an eighth is left";
  clock_.advance(2s);
  statistics(200 * kMiB);
  look();
  EXPECT_EQ(wait(), 2s) << "it took or gave much";
  clock_.advance(2s);
  statistics(200 * kMiB);
  look();
  EXPECT_EQ(wait(), 8s);
}

TEST_F(MonitorTest, ASharedSocketIsItsOwnersWhileTheGuestIsBackedUp) {
  share_socket();
  qemu_->answers["query-jobs"] = json::array({{{"id", "x"}, {"type", "backup"}, {"status", "running"}}});
  look();
  EXPECT_EQ(wait(), 30s);
}

TEST_F(MonitorTest, ASharedSocketThatTakesLongIsGivenBackWithWhatWasSaid) {
  share_socket();
  qemu_->hangs_at = "query-migrate";
  monitor_->on_time();
  qemu_->greet();
  monitor_->on_readable();
  EXPECT_EQ(wait(), 200ms);
  clock_.advance(100ms);
  talk();
  EXPECT_EQ(wait(), 100ms) << "answers do not make it longer";
  clock_.advance(99ms);
  look();
  EXPECT_TRUE(qemu_->has_client());
  clock_.advance(1ms);
  look();
  EXPECT_FALSE(qemu_->has_client());
  EXPECT_TRUE(monitor_->failing());
  EXPECT_TRUE(monitor_->has_guest()) << "what it said until then is known";
  EXPECT_EQ(health_.errors, 1U);
  EXPECT_EQ(wait(), 1800ms) << "no sooner than 2 s after it was taken";
  qemu_->hangs_at.clear();
  look_when_due();
  look_when_due();
  EXPECT_FALSE(monitor_->failing());
  EXPECT_EQ(told_.leavings, 0);
}

TEST_F(MonitorTest, AGuestOfASharedSocketThatDidNotSayWhoItIsInTimeIsNotIntroduced) {
  share_socket();
  qemu_->hangs_at = "query-cpus-fast";
  look();
  clock_.advance(200ms);
  monitor_->on_time();
  EXPECT_THAT(told_.asked_for, IsEmpty());
  EXPECT_EQ(monitor_->fd(), -1);
}

TEST_F(MonitorTest, AGuestOfASharedSocketThatFellSilentStays) {
  share_socket();
  look();
  qemu_->hangs_at = "query-migrate";
  look_when_due();
  clock_.advance(6s);
  monitor_->on_time();
  EXPECT_EQ(told_.leavings, 0);
  EXPECT_TRUE(monitor_->failing());
}

TEST_F(MonitorTest, StatisticsOfASharedSocketWhoseBalloonMovedMeanwhileAreNotTold) {
  share_socket();
  look();
  EXPECT_EQ(told_.samples.size(), 1U);
  clock_.advance(8s);
  size(400 * kMiB);
  statistics(100 * kMiB);
  look();
  EXPECT_EQ(told_.samples.size(), 1U) << "nobody knows which size they are of";
  EXPECT_EQ(told_.balloon_now.actual, 400 * kMiB);
  clock_.advance(8s);
  statistics(90 * kMiB);
  look();
  ASSERT_EQ(told_.samples.size(), 2U);
  EXPECT_EQ(told_.samples[1].actual, 400 * kMiB);
}

TEST_F(MonitorTest, OnOurOwnSocketStatisticsOfABalloonThatMovesAreTold) {
  have_own_socket();
  look();
  clock_.advance(1s);
  size(400 * kMiB);
  statistics(100 * kMiB);
  look();
  ASSERT_EQ(told_.samples.size(), 2U);
  EXPECT_EQ(told_.samples[1].actual, 400 * kMiB);
}

TEST_F(MonitorTest, FirstStatisticsOfABalloonThatMovesAreNotTold) {
  have_own_socket();
  qemu_->answers["qom-get guest-stats"] = FakeQemu::statistics(0, 0);
  look();
  qemu_->happen("BALLOON_CHANGE", {{"actual", 400 << 20}});
  monitor_->on_readable();
  size(400 * kMiB);
  statistics(100 * kMiB);
  look_when_due();
  EXPECT_THAT(told_.samples, IsEmpty());
  clock_.advance(1s);
  statistics(100 * kMiB);
  look();
  EXPECT_EQ(told_.samples.size(), 1U);
}

TEST_F(MonitorTest, ABalloonThatLeavesOurTargetHasWhatIsFoundThere) {
  have_own_socket();
  look();
  ask(300 * kMiB);
  talk();
  for (const Bytes actual : {400 * kMiB, 300 * kMiB}) {
    qemu_->happen("BALLOON_CHANGE", {{"actual", actual.count()}});
    monitor_->on_readable();
    EXPECT_EQ(told_.balloon_now.target, 300 * kMiB);
  }
  qemu_->happen("BALLOON_CHANGE", {{"actual", 450 << 20}});
  monitor_->on_readable();
  EXPECT_EQ(told_.balloon_now.target, 450 * kMiB);
}

TEST_F(MonitorTest, AGuestThatDoesNotRunKeepsOurTarget) {
  have_own_socket();
  look();
  ask(300 * kMiB);
  talk();
  qemu_->happen("BALLOON_CHANGE", {{"actual", 300 << 20}});
  qemu_->happen("STOP");
  qemu_->happen("BALLOON_CHANGE", {{"actual", 450 << 20}});
  monitor_->on_readable();
  EXPECT_EQ(told_.balloon_now.target, 300 * kMiB);
}

TEST_F(MonitorTest, ABalloonThatStopsShortOfOurTargetThoughItCouldGoOnWasStoppedBySomebodyElse) {
  have_own_socket();
  look();
  ask(300 * kMiB);
  talk();
  size(400 * kMiB);
  look_when_due();
  for (int i = 0; i < 10; ++i) look_when_due();
  EXPECT_EQ(told_.balloon_now.target, 300 * kMiB) << "the same statistics say it once";
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(told_.balloon_now.target, 300 * kMiB) << i;
    clock_.advance(1s);
    statistics(100 * kMiB);
    look();
  }
  EXPECT_EQ(told_.balloon_now.target, 400 * kMiB);
}

TEST_F(MonitorTest, AGuestWhoseMemoryIsPluggedInComesAnew) {
  have_own_socket();
  look();
  qemu_->answers["query-memory-size-summary"] = {{"base-memory", 512 << 20}, {"plugged-memory", 256 << 20}};
  for (int i = 0; i < 10; ++i) look_when_due();
  EXPECT_EQ(told_.leavings, 1);
  ASSERT_EQ(told_.guests.size(), 2U);
  EXPECT_EQ(told_.guests.back().memory, 768 * kMiB);
  EXPECT_EQ(told_.samples.size(), 2U) << "the newcomer's statistics are told, too";
  EXPECT_TRUE(monitor_->has_guest());
}

TEST_F(MonitorTest, AGuestWhoseNameIsTakenHasItsSocketsToo) {
  told_.taken = "web";
  have_own_socket();
  look();
  EXPECT_THAT(told_.asked_for, ElementsAre("web", "web.100"));
  EXPECT_TRUE(monitor_->has_guest());
}

TEST_F(MonitorTest, ALongNameAndALongSocketsNameAreBothCut) {
  const std::string path = tree_.root() + "/" + std::string(40, 's') + ".qmp";
  qemu_ = std::make_unique<FakeQemu>(path);
  qemu_->answers["query-name"] = {{"name", std::string(40, 'n')}};
  told_.taken = std::string(40, 'n');
  monitor_ = std::make_unique<Monitor>(surroundings_, path, Use{.exclusive = true});
  look();
  ASSERT_EQ(told_.guests.size(), 1U);
  EXPECT_EQ(told_.guests[0].name, std::string(31, 'n') + "." + std::string(31, 's'));
}

TEST_F(MonitorTest, AGuestOfItsSocketsNameThatIsTakenHasItTwice) {
  told_.taken = "100";
  qemu_->answers["query-name"] = json::object();
  have_own_socket();
  look();
  EXPECT_THAT(told_.asked_for, ElementsAre("100", "100.100"));
  EXPECT_TRUE(monitor_->has_guest());
}

TEST_F(MonitorTest, AGuestThatMayNotJoinIsAskedForAgainInTheNextRound) {
  told_.refusal = {.kind = JoinRefusal::Kind::already_managed, .reason = "libvirt has it"};
  have_own_socket();
  look();
  EXPECT_THAT(told_.asked_for, ElementsAre("web")) << "another name would not help";
  EXPECT_EQ(told_.balloons, 0);
  EXPECT_THAT(told_.samples, IsEmpty());
  EXPECT_TRUE(monitor_->failing());
  told_.refusal.reset();
  look_when_due();
  EXPECT_TRUE(monitor_->has_guest());
  look_when_due();
  EXPECT_FALSE(monitor_->failing());
  EXPECT_EQ(health_.errors, 0U) << "its QEMU is well";
}

TEST_F(MonitorTest, AProcessThatAnotherSocketHasIsNotManagedTwice) {
  managed_ = {::getpid()};
  have_own_socket();
  look();
  EXPECT_THAT(told_.asked_for, IsEmpty());
  EXPECT_TRUE(monitor_->failing());
}

TEST_F(MonitorTest, ProxmoxGrantsAreTheGuestsLimits) {
  tree_.write("/100.conf", "memory: 512\nballoon: 256\n");
  monitor_ = monitor({.exclusive = true, .proxmox = tree_.root()});
  look();
  ASSERT_EQ(told_.guests.size(), 1U);
  EXPECT_TRUE(told_.guests[0].labels.contains(policy::rules::kMinLabel))
      << testing::PrintToString(told_.guests[0].labels);
}

TEST_F(MonitorTest, AGuestWhoseProxmoxConfigurationIsMissingHasNoLimitsOfItsOwn) {
  monitor_ = monitor({.exclusive = true, .proxmox = tree_.root()});
  look();
  ASSERT_EQ(told_.guests.size(), 1U);
  EXPECT_EQ(told_.guests[0].labels.size(), 2U) << testing::PrintToString(told_.guests[0].labels);
}

TEST_F(MonitorTest, AQemuThatEndsTakesItsGuestWithIt) {
  have_own_socket();
  look();
  ask(300 * kMiB);
  qemu_->hang_up();
  monitor_->on_readable();
  EXPECT_EQ(told_.leavings, 1);
  EXPECT_THAT(told_.answers, ElementsAre("its QMP socket was closed"));
  EXPECT_EQ(monitor_->fd(), -1);
  EXPECT_FALSE(monitor_->has_guest());
  EXPECT_TRUE(monitor_->failing());
  EXPECT_EQ(health_.errors, 1U);
  EXPECT_EQ(wait(), 250ms);
  look_when_due();
  EXPECT_EQ(told_.guests.size(), 2U) << "it is back";
  EXPECT_EQ(qemu_->times_asked("qom-get guest-stats-polling-interval"), 2) << "and asked for all";
}

TEST_F(MonitorTest, WhatIsAskedOfAGuestThatLeftIsNotCarriedOut) {
  have_own_socket();
  look();
  qemu_->hang_up();
  monitor_->on_readable();
  ask(300 * kMiB);
  clock_.advance(10s);
  monitor_->on_time();
  EXPECT_THAT(told_.answers, IsEmpty());
}

TEST_F(MonitorTest, ASocketThatNobodyServesIsTriedMoreAndMoreSeldom) {
  have_own_socket();
  look();
  qemu_ = nullptr;
  monitor_->on_readable();
  EXPECT_EQ(told_.leavings, 1);
  for (const auto pause : {250ms, 500ms, 1000ms, 2000ms, 4000ms, 8000ms, 8000ms}) {
    EXPECT_EQ(wait(), pause);
    clock_.advance(wait());
    monitor_->on_time();
  }
  EXPECT_EQ(health_.errors, 8U);
  qemu_ = std::make_unique<FakeQemu>(path_);
  monitor_->on_new_socket();
  EXPECT_EQ(wait(), 0s) << "a new file is tried at once";
  look();
  EXPECT_TRUE(monitor_->has_guest());
  qemu_->hang_up();
  monitor_->on_readable();
  EXPECT_EQ(wait(), 250ms) << "and all is as at first";
}

TEST_F(MonitorTest, ANewSocketsFileDoesNotDisturbAConnection) {
  have_own_socket();
  look();
  monitor_->on_new_socket();
  EXPECT_EQ(wait(), 1s);
}

TEST_F(MonitorTest, AnotherProcessBehindTheSocketIsAnotherGuest) {
  share_socket();
  look();
  ask(300 * kMiB);
  qemu_->be_another_process();
  look_when_due();
  EXPECT_EQ(told_.leavings, 1);
  ASSERT_EQ(told_.guests.size(), 2U);
  EXPECT_NE(told_.peer.pid, ::getpid());
  EXPECT_EQ(qemu_->times_asked("query-name"), 2) << "it is asked who it is";
  look_when_due();
  EXPECT_EQ(qemu_->times_asked("balloon"), 0) << "that was asked of the other";
}

TEST_F(MonitorTest, AQemuThatDoesNotGreetServesSomebodyElseAndKeepsItsGuest) {
  share_socket();
  look();
  ask(300 * kMiB);
  clock_.advance(2s);
  monitor_->on_time();
  EXPECT_EQ(wait(), 1s);
  clock_.advance(999ms);
  monitor_->on_time();
  EXPECT_FALSE(monitor_->failing());
  clock_.advance(1ms);
  monitor_->on_time();
  EXPECT_TRUE(monitor_->failing());
  EXPECT_EQ(told_.leavings, 0);
  EXPECT_THAT(told_.answers, ElementsAre("its QMP socket was closed"));
  EXPECT_EQ(wait(), 1s);
}

TEST_F(MonitorTest, ATargetThatOthersKeepFromTheSocketFor10sIsRefused) {
  share_socket();
  look();
  qemu_->be_crowded();
  ask(300 * kMiB);
  EXPECT_EQ(wait(), 2s);
  for (const auto pause : {2000ms, 250ms, 500ms, 1000ms, 2000ms, 4000ms}) {
    EXPECT_EQ(wait(), pause);
    clock_.advance(wait());
    monitor_->on_time();
  }
  EXPECT_THAT(told_.answers, IsEmpty());
  clock_.advance(249ms);
  monitor_->on_time();
  EXPECT_THAT(told_.answers, IsEmpty());
  clock_.advance(1ms);
  monitor_->on_time();
  EXPECT_THAT(told_.answers, ElementsAre("its QMP socket is busy"));
  EXPECT_EQ(told_.answered_sequence, 1U);
  EXPECT_EQ(told_.leavings, 0);
  EXPECT_TRUE(monitor_->failing());
}

TEST_F(MonitorTest, AQemuThatFallsSilentOnOurOwnSocketIsGone) {
  have_own_socket();
  look();
  qemu_->hangs_at = "query-migrate";
  look_when_due();
  EXPECT_EQ(wait(), 5s);
  clock_.advance(4999ms);
  look();
  EXPECT_EQ(told_.leavings, 0);
  clock_.advance(1ms);
  monitor_->on_time();
  EXPECT_EQ(told_.leavings, 1);
  EXPECT_EQ(told_.last_left, 1U);
  EXPECT_EQ(health_.errors, 1U);
}

TEST_F(MonitorTest, WhatIsNoQmpEndsTheGuestsStay) {
  have_own_socket();
  look();
  qemu_->say("nonsense");
  monitor_->on_readable();
  EXPECT_EQ(told_.leavings, 1);
  EXPECT_TRUE(monitor_->failing());
}

TEST_F(MonitorTest, AQemuThatDoesNotSayWhoseGuestItHasIsNotManaged) {
  qemu_->refusals["query-memory-size-summary"] = "not now";
  have_own_socket();
  look();
  EXPECT_THAT(told_.asked_for, IsEmpty());
  EXPECT_EQ(monitor_->fd(), -1);
  EXPECT_EQ(health_.errors, 1U);
}

TEST_F(MonitorTest, AQemuThatGivesNoStatisticsHasAGuestWithoutThem) {
  qemu_->refusals["qom-get guest-stats"] = "not now";
  have_own_socket();
  look();
  EXPECT_TRUE(monitor_->has_guest());
  EXPECT_THAT(told_.samples, IsEmpty());
}

TEST_F(MonitorTest, AGuestWhoseProcessHasLockedItsMemoryIsLeftAlone) {
  constexpr std::size_t kLocked = 64 << 10;
  qemu_->answers["query-memory-size-summary"] = {{"base-memory", 2 * kLocked}};
  void* const memory = ::mmap(nullptr, kLocked, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(::syscall(SYS_mlock, memory, kLocked), 0);  // sanitizers make nothing of mlock()
  have_own_socket();
  look();
  ::munmap(memory, kLocked);
  ASSERT_EQ(told_.guests.size(), 1U);
  EXPECT_EQ(told_.guests[0].balloon->obstacle, "its memory is locked");
}

TEST_F(MonitorTest, AnAnswerThatMakesNoSenseIsComplainedOfUntilARoundGoesWell) {
  have_own_socket();
  look();
  qemu_->answers["query-migrate"] = 5;
  look_when_due();
  EXPECT_TRUE(monitor_->failing());
  EXPECT_TRUE(monitor_->has_guest());
  qemu_->answers["query-migrate"] = json::object();
  look_when_due();
  EXPECT_FALSE(monitor_->failing());
  qemu_->happen("BALLOON_CHANGE", {{"actual", -1}});
  monitor_->on_readable();
  EXPECT_TRUE(monitor_->failing());
}

TEST_F(MonitorTest, WhatAQemuDoesNotReadYetIsWrittenLater) {
  have_own_socket();
  look();
  qemu_->arguments.clear();
  std::size_t asked = 0;
  for (; !monitor_->wants_write() && asked < 100'000; ++asked) ask(300 * kMiB);
  ASSERT_TRUE(monitor_->wants_write());
  while (monitor_->wants_write()) {
    qemu_->read();
    monitor_->on_writable();
  }
  while (told_.answers.size() < asked) {
    ASSERT_TRUE(qemu_->answer(/*at_most=*/100));
    monitor_->on_readable();
  }
  EXPECT_EQ(qemu_->arguments.size(), asked);
}

TEST_F(MonitorTest, AWriteThatFailsIsSeenByReadingAndNothingIsDoneTwice) {
  have_own_socket();
  look();
  qemu_->hang_up();
  ask(300 * kMiB);
  EXPECT_TRUE(monitor_->wants_write());
  EXPECT_THAT(told_.answers, IsEmpty());
  ask(400 * kMiB);
  monitor_->on_writable();
  EXPECT_EQ(told_.leavings, 0);
  monitor_->on_readable();
  EXPECT_EQ(told_.leavings, 1);
  EXPECT_THAT(told_.answers, ElementsAre("its QMP socket was closed", "its QMP socket was closed"));
  EXPECT_EQ(health_.errors, 1U);
  // What the backend's thread was told of the descriptor before it was closed.
  monitor_->on_writable();
  monitor_->on_readable();
  monitor_->on_mail();
  EXPECT_EQ(health_.errors, 1U);
  EXPECT_FALSE(monitor_->wants_write());
}

TEST_F(MonitorTest, WhatWasNotWrittenIsForgottenWithItsConnection) {
  have_own_socket();
  look();
  for (int i = 0; !monitor_->wants_write() && i < 100'000; ++i) ask(300 * kMiB);
  qemu_->hang_up();
  monitor_->on_readable();
  EXPECT_FALSE(monitor_->wants_write());
  qemu_->asked.clear();
  look_when_due();
  EXPECT_TRUE(monitor_->has_guest());
  EXPECT_EQ(qemu_->times_asked("balloon"), 0);
}

}  // namespace
}  // namespace balloon::daemon::qmp
