// SPDX-License-Identifier: Apache-2.0
// One libvirtd and its domains, with a client library that does what the test wants.
#include "balloond/guests/libvirt/host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>

#include "balloond/guests/libvirt/module.h"
#include "balloond/guests/registry.h"
#include "policy/rules/values.h"
#include "tests/unit/balloond/fakes.h"
#include "tests/unit/balloond/guests/libvirt/fake_libvirt.h"
#include "tests/unit/balloond/guests/patience.h"
#include "tests/unit/balloond/guests/told.h"

extern "C" const balloon::daemon::libvirt::Module balloond_libvirt;

namespace balloon::daemon::libvirt {
namespace {

using namespace std::chrono_literals;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string uuid_of(int number) { return "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c" + std::to_string(10 + number); }

/// Rung by calls, some of which return when the test is over.
class Bell {
 public:
  void ring() {
    const std::lock_guard lock(mutex_);
    rung_ = true;
    changed_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, test::kPatience, [this] { return std::exchange(rung_, false); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
};

class HostTest : public testing::Test {
 protected:
  ~HostTest() override {
    libvirt_.change([](FakeLibvirt& it) { it.hanging.clear(); });
    host_.reset();
    EXPECT_TRUE(libvirt_.wait_for([this] { return libvirt_.connections == 0; })) << "all are closed";
  }
  /// A running domain of 1 GiB, whose guest has sent statistics.
  void add(int number = 0, const std::string& memory = "<currentMemory>1048576</currentMemory>") {
    const std::string name = "web-" + std::to_string(number);
    const std::string begin = "<domain><name>" + name + "</name><memory>1048576</memory>";
    const std::string end = "<vcpu>2</vcpu><devices><memballoon model='virtio'/></devices></domain>";
    libvirt_.change([&](FakeLibvirt& it) {
      it.domains[uuid_of(number)] = {
          .name = name, .xml = begin + end, .next_xml = begin + memory + end, .numbers = numbers()};
    });
  }
  std::vector<virTypedParameter> numbers() const {
    const auto now = std::chrono::duration_cast<std::chrono::seconds>(clock_.wall().time_since_epoch());
    return {libvirt::number("state.state", VIR_DOMAIN_RUNNING),
            libvirt::number("balloon.current", kGiB / kKiB),
            libvirt::number("balloon.maximum", kGiB / kKiB),
            libvirt::number("balloon.usable", 300 * kMiB / kKiB),
            libvirt::number("balloon.rss", 5),
            libvirt::number("balloon.last-update", static_cast<unsigned long long>(now.count()))};
  }
  void start() { host_ = std::make_unique<Host>(surroundings_, libvirt_.uri); }
  /// Has the host take what its calls bring, until `is_so`.
  void until(const std::function<bool()>& is_so) {
    host_->run();
    while (!is_so()) {
      ASSERT_TRUE(bell_->wait());
      host_->run();
    }
  }
  int looks() { return libvirt_.count("look"); }
  /// A look that is due, and what it brings.
  void look() {
    const int before = looks();
    until([&] { return looks() > before && !looking(); });
  }
  /// The next one is not due before the pause after this one is over.
  bool looking() const { return host_->due() - clock_.now() > 1s; }
  std::chrono::nanoseconds wait() const { return host_->due() - clock_.now(); }
  void come_up() {
    start();
    look();
  }
  void ask(Bytes target) {
    told_.channel->ask({.kind = Request::Kind::target, .sequence = 1, .target = target});
    host_->run();
  }

  /// Waits until nothing is under way: what is asked of a domain follows what is.
  void settle() {
    ask(768 * kMiB);
    until([this] { return !told_.answers.empty(); });
    told_.answers.clear();
  }

  FakeLibvirt& libvirt_ = FakeLibvirt::anew();
  test::FakeClock clock_;
  test::Told told_;
  BackendHealth health_;
  const std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  Surroundings surroundings_{.clock = clock_,
                             .guests = told_,
                             .wake = [bell = bell_] { bell->ring(); },
                             .stats_interval = 1s,
                             .health = health_};
  std::unique_ptr<Host> host_;
};

TEST_F(HostTest, RunningDomainsJoinWithTheFirstLook) {
  add();
  start();
  EXPECT_EQ(wait(), 0s);
  EXPECT_FALSE(host_->connected());
  EXPECT_FALSE(host_->failing());
  look();
  ASSERT_THAT(told_.guests, SizeIs(1));
  EXPECT_EQ(told_.guests[0].name, "web-0");
  EXPECT_EQ(told_.guests[0].version, "QEMU 7.2.22");
  EXPECT_EQ(told_.guests[0].vcpus, 2U);
  EXPECT_EQ(told_.guests[0].labels.at("libvirt"), libvirt_.uri);
  EXPECT_FALSE(told_.guests[0].labels.contains(policy::rules::kMinLabel)) << "no less than all is configured";
  ASSERT_THAT(told_.samples, SizeIs(1));
  EXPECT_EQ(told_.samples[0].available, 300 * kMiB);
  EXPECT_GT(told_.samples[0].round_trip, 0ns);
  EXPECT_TRUE(host_->connected());
  EXPECT_FALSE(host_->failing());
  EXPECT_EQ(health_.errors, 0U);
  EXPECT_EQ(wait(), 1s);
  EXPECT_EQ(libvirt_.keepalive_interval, 3);
  EXPECT_EQ(libvirt_.keepalive_count, 2U);
}

TEST_F(HostTest, ALibvirtThatDoesNotSayItsVersionIsNamedAllTheSame) {
  for (const char* function : {"version", "type"}) {
    libvirt_.failing = {function};
    add();
    come_up();
    EXPECT_EQ(told_.guests.back().version, "libvirt");
    host_.reset();
  }
}

TEST_F(HostTest, ALookIsMadeOnceInTheIntervalAndDomainsAreDescribedOnce) {
  add();
  come_up();
  settle();
  const int described = libvirt_.count("xml");
  clock_.advance(999ms);
  host_->run();
  EXPECT_EQ(looks(), 1);
  clock_.advance(1ms);
  look();
  EXPECT_EQ(looks(), 2);
  EXPECT_EQ(libvirt_.count("xml"), described);
  EXPECT_EQ(libvirt_.count("open"), 2) << "one to look, and one to set the interval of statistics";
  EXPECT_THAT(told_.guests, SizeIs(1));
}

TEST_F(HostTest, WhatIsConfiguredForTheNextStartIsTheLeastThatAGuestHas) {
  add(0, "<currentMemory>524288</currentMemory>");
  come_up();
  EXPECT_TRUE(told_.guests.at(0).labels.contains(policy::rules::kMinLabel));
}

TEST_F(HostTest, ADomainThatIsForgottenWhenItEndsHasNoLeast) {
  add(0, "<currentMemory>524288</currentMemory>");
  libvirt_.domains[uuid_of(0)].persistent = false;
  come_up();
  EXPECT_FALSE(told_.guests.at(0).labels.contains(policy::rules::kMinLabel));
}

TEST_F(HostTest, ADomainThatIsGoneLeaves) {
  add(0);
  add(1);
  come_up();
  EXPECT_THAT(told_.guests, SizeIs(2));
  libvirt_.change([](FakeLibvirt& it) { it.domains.erase(uuid_of(0)); });
  clock_.advance(1s);
  look();
  EXPECT_EQ(told_.leavings, 1);
}

TEST_F(HostTest, ADomainWhoseProcessIsNotThereYetJoinsLater) {
  add();
  auto starting = libvirt_.domains[uuid_of(0)].numbers;
  starting[0] = libvirt::number("state.state", VIR_DOMAIN_PAUSED);
  starting.push_back(libvirt::number("state.reason", VIR_DOMAIN_PAUSED_STARTING_UP));
  libvirt_.domains[uuid_of(0)].numbers = starting;
  come_up();
  EXPECT_THAT(told_.guests, IsEmpty());
  starting.back() = libvirt::number("state.reason", VIR_DOMAIN_PAUSED_USER);
  libvirt_.change([&](FakeLibvirt& it) { it.domains[uuid_of(0)].numbers = starting; });
  clock_.advance(1s);
  look();
  EXPECT_THAT(told_.guests, SizeIs(1)) << "though its process cannot be seen from here";
}

TEST_F(HostTest, ADomainThatCannotBeDescribedJoinsOnceItCan) {
  add(0);
  add(1);
  const std::string good = libvirt_.domains[uuid_of(0)].xml;
  libvirt_.domains[uuid_of(0)].xml = "nonsense";
  come_up();
  EXPECT_THAT(told_.asked_for, ElementsAre("web-1"));
  libvirt_.change([&](FakeLibvirt& it) { it.domains[uuid_of(0)].xml = good; });
  clock_.advance(1s);
  look();
  EXPECT_THAT(told_.asked_for, ElementsAre("web-1", "web-0"));
  EXPECT_TRUE(host_->connected());
}

TEST_F(HostTest, ADomainThatGoesBetweenTheLookAndItsDescriptionIsNoFailure) {
  add();
  libvirt_.failing = {"xml"};
  come_up();
  EXPECT_TRUE(host_->connected());
  EXPECT_THAT(told_.asked_for, IsEmpty());
}

TEST_F(HostTest, ANamelessDomainIsPassedOver) {
  add(0);
  add(1);
  libvirt_.domains[uuid_of(0)].name.clear();
  come_up();
  EXPECT_THAT(told_.asked_for, ElementsAre("web-1"));
}

TEST_F(HostTest, ATargetIsSetOfTheDomainThatRunsInKib) {
  add();
  come_up();
  ask(512 * kMiB);
  until([this] { return !told_.answers.empty(); });
  EXPECT_THAT(told_.answers, ElementsAre(""));
  EXPECT_EQ(told_.answered_sequence, 1U);
  EXPECT_EQ(libvirt_.domains[uuid_of(0)].target_kib, 512UL << 10);
  EXPECT_EQ(libvirt_.domains[uuid_of(0)].target_flags, static_cast<unsigned>(VIR_DOMAIN_AFFECT_LIVE));
  EXPECT_EQ(libvirt_.domains[uuid_of(0)].period, 1) << "and the interval of its statistics";
}

TEST_F(HostTest, WhatLibvirtRefusesIsAnsweredInItsWords) {
  add();
  libvirt_.failing = {"target"};
  come_up();
  ask(512 * kMiB);
  until([this] { return !told_.answers.empty(); });
  EXPECT_THAT(told_.answers, ElementsAre("it fails"));
}

TEST_F(HostTest, ADomainThatIsGoneWhenItsTargetIsSetIsAnsweredSo) {
  add();
  come_up();
  libvirt_.change([](FakeLibvirt& it) { it.failing = {"lookup"}; });
  ask(512 * kMiB);
  until([this] { return !told_.answers.empty(); });
  EXPECT_THAT(told_.answers, ElementsAre("it fails"));
}

TEST_F(HostTest, AnErrandWhoseConnectionCannotBeOpenedIsAnsweredSo) {
  add();
  come_up();
  libvirt_.change([](FakeLibvirt& it) {
    it.alive = false;
    it.failing = {"open"};
  });
  ask(512 * kMiB);
  until([this] { return !told_.answers.empty(); });
  EXPECT_THAT(told_.answers, ElementsAre("it fails"));
}

TEST_F(HostTest, ADomainThatLibvirtIsAtWorkOnIsNotAsked) {
  add();
  come_up();
  for (const int job : {VIR_DOMAIN_JOB_BOUNDED, VIR_DOMAIN_JOB_UNBOUNDED}) {
    libvirt_.change([&](FakeLibvirt& it) { it.domains[uuid_of(0)].job = job; });
    told_.answers.clear();
    ask(512 * kMiB);
    until([this] { return !told_.answers.empty(); });
    EXPECT_THAT(told_.answers, ElementsAre("libvirt migrates, saves, dumps or backs it up"));
  }
  EXPECT_EQ(libvirt_.count("target"), 0);
  libvirt_.change([](FakeLibvirt& it) { it.domains[uuid_of(0)].job = VIR_DOMAIN_JOB_COMPLETED; });
  told_.answers.clear();
  ask(512 * kMiB);
  until([this] { return !told_.answers.empty(); });
  EXPECT_THAT(told_.answers, ElementsAre(""));
}

TEST_F(HostTest, WhetherLibvirtIsAtWorkIsAskedEvery10s) {
  add();
  come_up();
  EXPECT_EQ(told_.balloon_now.obstacle, "");
  EXPECT_EQ(libvirt_.count("job"), 1);
  libvirt_.change([](FakeLibvirt& it) { it.domains[uuid_of(0)].job = VIR_DOMAIN_JOB_BOUNDED; });
  for (int i = 0; i < 9; ++i) {
    clock_.advance(1s);
    look();
  }
  EXPECT_EQ(libvirt_.count("job"), 1);
  EXPECT_EQ(told_.balloon_now.obstacle, "");
  clock_.advance(1s);
  look();
  EXPECT_EQ(libvirt_.count("job"), 2);
  EXPECT_EQ(told_.balloon_now.obstacle, "libvirt migrates, saves, dumps or backs it up");
}

TEST_F(HostTest, ADomainThatAnotherCallHoldsIsNotAskedForItsJobs) {
  add();
  libvirt_.domains[uuid_of(0)].numbers.resize(3);
  come_up();
  EXPECT_EQ(libvirt_.count("job"), 0);
  EXPECT_THAT(told_.guests, SizeIs(1));
}

TEST_F(HostTest, AnEventBringsTheNextLookForwardButNotCloserThan100ms) {
  add();
  come_up();
  for (const int event :
       {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE}) {
    libvirt_.happen(event, uuid_of(0));
    until([this] { return wait() < 1s; });
    EXPECT_EQ(wait(), 100ms) << event;
    clock_.advance(100ms);
    look();
    EXPECT_EQ(wait(), 1s) << event;
  }
}

TEST_F(HostTest, ADomainThatRebootsHasNoDriverUntilItSendsStatisticsAgain) {
  add();
  come_up();
  EXPECT_TRUE(told_.guests.at(0).balloon->driver_ready);
  libvirt_.happen(VIR_DOMAIN_EVENT_ID_LIFECYCLE, uuid_of(0));
  until([this] { return wait() < 1s; });
  clock_.advance(1s);
  look();
  EXPECT_EQ(told_.balloons, 0) << "that was no reboot";
  libvirt_.happen(VIR_DOMAIN_EVENT_ID_REBOOT, uuid_of(0));
  libvirt_.happen(VIR_DOMAIN_EVENT_ID_REBOOT, uuid_of(5));
  until([this] { return wait() < 1s; });
  clock_.advance(100ms);
  look();
  EXPECT_FALSE(told_.balloon_now.driver_ready);
}

TEST_F(HostTest, ALibvirtThatCannotBeReachedIsTriedMoreAndMoreSeldom) {
  add();
  come_up();
  settle();
  libvirt_.change([](FakeLibvirt& it) {
    it.alive = false;
    it.failing = {"open"};
  });
  clock_.advance(1s);
  for (const auto pause : {250ms, 500ms, 1000ms, 2000ms, 4000ms, 8000ms, 8000ms}) {
    const std::uint64_t before = health_.errors;
    until([&] { return health_.errors > before; });
    EXPECT_EQ(wait(), pause);
    EXPECT_TRUE(host_->failing());
    EXPECT_FALSE(host_->connected());
    clock_.advance(pause);
  }
  EXPECT_EQ(told_.leavings, 1) << "nobody knows of its domains";
  libvirt_.change([](FakeLibvirt& it) {
    it.alive = true;
    it.failing.clear();
  });
  look();
  EXPECT_TRUE(host_->connected());
  EXPECT_FALSE(host_->failing());
  EXPECT_THAT(told_.guests, SizeIs(2));
  libvirt_.change([](FakeLibvirt& it) { it.failing = {"look"}; });
  clock_.advance(1s);
  const std::uint64_t before = health_.errors;
  until([&] { return health_.errors > before; });
  EXPECT_EQ(wait(), 250ms) << "all is as at first";
}

TEST_F(HostTest, ALookThatFailsHasItsConnectionOpenedAnew) {
  libvirt_.failing = {"look"};
  start();
  until([this] { return health_.errors == 1; });
  libvirt_.change([](FakeLibvirt& it) { it.failing.clear(); });
  clock_.advance(250ms);
  look();
  EXPECT_EQ(libvirt_.count("open"), 2);
}

TEST_F(HostTest, ALookThatTakes5sIsGivenUpAndWhatItBringsLaterIsNotTaken) {
  add();
  libvirt_.hanging = {"look"};
  start();
  host_->run();
  ASSERT_TRUE(libvirt_.wait_for_hanging("look", 1));
  EXPECT_EQ(wait(), 5s);
  clock_.advance(4999ms);
  host_->run();
  EXPECT_FALSE(host_->failing());
  clock_.advance(1ms);
  host_->run();
  EXPECT_TRUE(host_->failing());
  EXPECT_EQ(health_.errors, 1U);
  EXPECT_EQ(wait(), 100ms);
  clock_.advance(100ms);
  host_->run();
  ASSERT_TRUE(libvirt_.wait_for_hanging("look", 2)) << "another connection takes its place";
  libvirt_.release("look");
  until([this] { return host_->connected(); });
  EXPECT_THAT(told_.guests, SizeIs(1));
}

TEST_F(HostTest, AfterEightCallsThatDoNotReturnNoMoreAreMadeUntilOneDoes) {
  const auto give_up = [this] {
    clock_.advance(5s);
    host_->run();
    return wait();
  };
  libvirt_.hanging = {"look"};
  start();
  for (int i = 1; i <= 8; ++i) {
    host_->run();
    ASSERT_TRUE(libvirt_.wait_for_hanging("look", i));
    EXPECT_EQ(give_up(), 100ms) << "another connection takes its place: " << i;
    clock_.advance(100ms);
  }
  host_->run();
  ASSERT_TRUE(libvirt_.wait_for_hanging("look", 9));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(give_up(), 5s) << "nothing takes the place of the ninth";
  libvirt_.release("look");
  until([this] { return host_->connected(); });
  EXPECT_EQ(libvirt_.count("open"), 9);

  ASSERT_TRUE(libvirt_.wait_for([this] { return libvirt_.hang["look"] == 0; }));
  libvirt_.change([](FakeLibvirt& it) { it.hanging = {"look"}; });
  clock_.advance(1s);
  host_->run();
  ASSERT_TRUE(libvirt_.wait_for_hanging("look", 1));
  give_up();
  EXPECT_TRUE(host_->failing()) << "it is told of the next that hangs as of the first";
}

TEST_F(HostTest, FourDomainsAreToldSomethingAtTheSameTime) {
  for (int i = 0; i < 6; ++i) add(i);
  libvirt_.hanging = {"period"};
  come_up();
  ASSERT_TRUE(libvirt_.wait_for_hanging("period", 4));
  host_->run();
  EXPECT_EQ(libvirt_.count("period"), 4);
  libvirt_.release("period");
  until([this] { return libvirt_.count("period") == 6; });
}

TEST_F(HostTest, AnErrandThatTakes5sIsGivenUpAndTheHandGoesOn) {
  add(0);
  come_up();
  settle();
  clock_.advance(900ms);
  libvirt_.change([](FakeLibvirt& it) { it.hanging = {"target"}; });
  ask(512 * kMiB);
  ASSERT_TRUE(libvirt_.wait_for_hanging("target", 1));
  for (int i = 0; i < 4; ++i) {
    clock_.advance(1s);
    look();
  }
  EXPECT_EQ(wait(), 1s);
  clock_.advance(999ms);
  host_->run();
  EXPECT_THAT(told_.answers, IsEmpty());
  clock_.advance(1ms);
  host_->run();
  EXPECT_THAT(told_.answers, ElementsAre("libvirt did not carry it out within 5 s"));
  libvirt_.release("target");
  ask(600 * kMiB);
  until([this] { return told_.answers.size() == 2; });
  EXPECT_EQ(told_.answers.back(), "");
}

TEST_F(HostTest, ItsEndDoesNotWaitForALibvirtThatDoesNotCloseItsConnections) {
  add();
  come_up();
  settle();
  libvirt_.change([](FakeLibvirt& it) { it.hanging = {"close"}; });
  const auto ended = std::async(std::launch::async, [this] { host_.reset(); });
  EXPECT_EQ(ended.wait_for(test::kPatience), std::future_status::ready);
  libvirt_.release("close");
}

TEST_F(HostTest, AConnectionThatIsDeadIsOpenedAnew) {
  add();
  come_up();
  settle();
  libvirt_.change([](FakeLibvirt& it) { it.alive = false; });
  const int before = libvirt_.count("open");
  clock_.advance(1s);
  look();
  EXPECT_EQ(libvirt_.count("open"), before + 1);
  EXPECT_TRUE(host_->connected());
}

// libvirt 4.0, of 2018, knows no call that does not wait.
TEST_F(HostTest, AnOlderLibvirtIsAskedForLessAndWhatItLacksIsSaidOnce) {
  struct Refusal {
    unsigned flags;
    unsigned groups;
    const char* lack;
  };
  for (const Refusal& refusal :
       {Refusal{VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT, 0, "and tells nothing of the others meanwhile"},
        Refusal{VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT, VIR_DOMAIN_STATS_BLOCK,
                "and tells nothing of virtual CPUs and disks"}}) {
    libvirt_.refused_flags = refusal.flags;
    libvirt_.refused_groups = refusal.groups;
    add();
    testing::internal::CaptureStdout();
    come_up();
    clock_.advance(1s);
    look();
    const std::string said = testing::internal::GetCapturedStdout();
    EXPECT_THAT(said, HasSubstr("libvirt " + libvirt_.uri +
                                ": it is unknown here: it waits for a domain "
                                "that another call holds, " +
                                refusal.lack + "; libvirt 4.5.0 or later"));
    EXPECT_EQ(said.find("it waits"), said.rfind("it waits"));
    EXPECT_TRUE(host_->connected());
    EXPECT_EQ(health_.errors, 0U);
    ASSERT_THAT(told_.samples, SizeIs(1));
    EXPECT_EQ(told_.samples[0].available, 300 * kMiB);
    ask(512 * kMiB);
    until([this] { return !told_.answers.empty(); });
    EXPECT_THAT(told_.answers, ElementsAre(""));
    host_.reset();
    told_ = {};
  }
}

TEST_F(HostTest, ALibvirtThatCannotTellOfItsDomainsAtAllIsNamedWithWhatIsNeeded) {
  libvirt_.unknown = {"look"};
  testing::internal::CaptureStdout();
  start();
  until([this] { return health_.errors == 1; });
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              HasSubstr("it is unknown here: balloond needs libvirt 1.2.9 or later and its driver for QEMU"));
  EXPECT_TRUE(host_->failing());
  EXPECT_EQ(wait(), 250ms) << "it is tried again, as it may be updated";
}

TEST_F(HostTest, OfALibvirtThatKnowsNoJobsDomainsAreControlledAndThatIsSaid) {
  libvirt_.unknown = {"job"};
  add();
  testing::internal::CaptureStdout();
  come_up();
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              HasSubstr("it is unknown here: whether a domain is migrated, saved or backed up is not seen"));
  EXPECT_EQ(told_.balloon_now.obstacle, "");
  ask(512 * kMiB);
  until([this] { return !told_.answers.empty(); });
  EXPECT_THAT(told_.answers, ElementsAre(""));
}

TEST_F(HostTest, ADomainWhoseBalloonLibvirtDoesNotTellOfIsLeftAlone) {
  add(0);
  add(1);
  libvirt_.domains[uuid_of(1)].numbers.resize(1);
  come_up();
  EXPECT_EQ(told_.guests.at(0).balloon->obstacle, "");
  EXPECT_EQ(told_.guests.at(1).balloon->obstacle,
            "libvirt does not tell the size of its balloon: it, or its driver, may be too old");
  EXPECT_EQ(told_.guests.at(1).balloon->actual, kGiB) << "it counts with all it may have";
}

TEST_F(HostTest, AbsurdNumbersOfADomainAreBoundedAndItsNeighbourKeepsItsFigures) {
  Registry guests(clock_, "/nowhere");
  const Surroundings surroundings{
      .clock = clock_, .guests = guests, .wake = surroundings_.wake, .stats_interval = 1s, .health = health_};
  const auto negative = [](const char* field) {
    virTypedParameter parameter = number(field, 0);
    parameter.type = VIR_TYPED_PARAM_LLONG;
    parameter.value.l = std::numeric_limits<long long>::min();
    return parameter;
  };
  constexpr unsigned long long kHuge = ~0ULL;
  add(0);
  add(1);
  const std::vector<std::vector<virTypedParameter>> absurd{
      {number("state.state", kHuge), number("balloon.current", kHuge), number("balloon.usable", kHuge - 1),
       number("balloon.unused", kHuge), number("balloon.swap_in", kHuge / 1024),
       number("vcpu.current", kHuge), number("block.count", kHuge), number("block.0.rd.bytes", kHuge),
       number("block.1.rd.bytes", kHuge), number("balloon.rss", kHuge), number("balloon.last-update", kHuge)},
      {negative("state.state"), negative("balloon.current"), negative("balloon.maximum"),
       negative("balloon.usable"), negative("balloon.unused"), negative("vcpu.current"),
       negative("block.count"), negative("balloon.rss")},
      {number("state.state", VIR_DOMAIN_RUNNING), number("balloon.current", kHuge),
       number("balloon.usable", 1ULL << 40), number("balloon.available", 1ULL << 41)}};
  host_ = std::make_unique<Host>(surroundings, libvirt_.uri);
  look();
  for (const auto& each : absurd) {
    clock_.advance(1s);
    libvirt_.change([&](FakeLibvirt& it) {
      it.domains[uuid_of(0)].numbers = each;
      it.domains[uuid_of(0)].numbers.push_back(numbers().back());  // when it was updated
      it.domains[uuid_of(1)].numbers = numbers();
    });
    look();
    const auto liar = guests.find("web-0");
    ASSERT_TRUE(liar);
    EXPECT_LE(liar->balloon.actual, kGiB);
    EXPECT_LE(liar->memory, kGiB);
    EXPECT_LE(liar->target, kGiB);
    const auto neighbour = guests.find("web-1");
    ASSERT_TRUE(neighbour);
    EXPECT_TRUE(neighbour->connected);
    EXPECT_EQ(neighbour->complaint, "");
    EXPECT_EQ(neighbour->balloon.obstacle, "");
    EXPECT_EQ(neighbour->memory, kGiB);
    EXPECT_EQ(neighbour->balloon.actual, kGiB);
    ASSERT_TRUE(neighbour->usable);
    EXPECT_EQ(neighbour->usable->sampled_at, clock_.now());
    EXPECT_EQ(neighbour->usable->available, 300 * kMiB);
    EXPECT_TRUE(host_->connected());
  }
  EXPECT_NE(guests.find("web-0")->complaint, "") << "that they make no sense is said";
  ASSERT_TRUE(guests.set_target("web-1", guests.find("web-1")->session, 512 * kMiB));
  until([this] { return libvirt_.count("target") > 0; });
  EXPECT_EQ(libvirt_.domains[uuid_of(1)].target_kib, 512UL << 10);
  host_.reset();
}

TEST(LinkNumbers, AreTakenWhateverTypeTheyHaveUnlessTheyAreNegative) {
  FakeLibvirt& libvirt = FakeLibvirt::anew();
  const auto typed = [](const char* field, int type, auto set) {
    virTypedParameter parameter = number(field, 0);
    parameter.type = type;
    set(parameter.value);
    return parameter;
  };
  libvirt.domains[uuid_of(0)] = {
      .name = "web",
      .xml = {},
      .numbers = {typed("state.state", VIR_TYPED_PARAM_INT, [](auto& value) { value.i = 3; }),
                  typed("vcpu.current", VIR_TYPED_PARAM_UINT, [](auto& value) { value.ui = 4; }),
                  typed("balloon.current", VIR_TYPED_PARAM_LLONG, [](auto& value) { value.l = 5; }),
                  typed("balloon.maximum", VIR_TYPED_PARAM_LLONG, [](auto& value) { value.l = -5; }),
                  typed("balloon.swap_in", VIR_TYPED_PARAM_INT, [](auto& value) { value.i = -6; }),
                  typed("balloon.swap_out", VIR_TYPED_PARAM_INT, [](auto& value) { value.i = 0; }),
                  typed("balloon.unused", VIR_TYPED_PARAM_LLONG, [](auto& value) { value.l = 0; }),
                  typed("balloon.usable", VIR_TYPED_PARAM_DOUBLE, [](auto& value) { value.d = 7; })}};
  {
    const auto link = Link::open(libvirt.uri);
    ASSERT_TRUE(link);
    const auto figures = (*link)->look();
    ASSERT_TRUE(figures);
    ASSERT_THAT(*figures, SizeIs(1));
    const Figures& web = figures->front();
    EXPECT_EQ(web.state, 3);
    EXPECT_EQ(web.vcpus, 4U);
    EXPECT_EQ(web.actual, 5 * kKiB);
    EXPECT_FALSE(web.maximum);
    EXPECT_FALSE(web.sample.swap_in);
    EXPECT_EQ(web.sample.swap_out, Bytes{0});
    EXPECT_EQ(web.sample.free, Bytes{0});
    EXPECT_FALSE(web.sample.available);
    EXPECT_EQ(libvirt.count("register"), 0) << "nobody listens";
  }
  EXPECT_EQ(libvirt.connections, 0);
}

/// Guests as the backend's own thread tells of them.
class Joined final : public GuestEvents {
 public:
  std::expected<Session, JoinRefusal> joined(const Registration&, const Peer&,
                                             std::shared_ptr<GuestChannel>) override {
    change(1);
    return 1;
  }
  void stats(Session, const StatsSample&) override {}
  void balloon(Session, const BalloonState&) override {}
  void counters(Session, const BalloonCounters&) override {}
  void answered(Session, Request::Kind, std::uint64_t, const std::string&) override {}
  void left(Session) override { change(-1); }

  bool wait_for(int guests) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, test::kPatience, [&] { return guests_ == guests; });
  }

 private:
  void change(int by) {
    {
      const std::lock_guard lock(mutex_);
      guests_ += by;
    }
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int guests_ = 0;
};

TEST(Runner, GuestsOfTheHostsThatAreToBeManagedAreThereAndNoOthers) {
  FakeLibvirt& kept = FakeLibvirt::anew();
  FakeLibvirt& other = FakeLibvirt::anew();
  kept.domains[uuid_of(0)] = {.name = "web", .xml = "<domain><memory>1048576</memory></domain>"};
  other.domains[uuid_of(1)] = {.name = "db", .xml = "<domain><memory>1048576</memory></domain>"};
  const SystemClock clock;
  Joined guests;
  BackendHealth health;
  {
    auto runner = balloond_libvirt.start(clock, guests, health);
    ASSERT_TRUE(runner) << runner.error().message;
    (*runner)->manage({{.uri = kept.uri}, {.uri = other.uri}}, 100ms);
    EXPECT_TRUE(guests.wait_for(2));
    EXPECT_TRUE(kept.wait_for([&] { return kept.calls["look"] >= 3; })) << "it looks again by itself";
    test::expect_eventually(health.connected, 2);
    test::expect_eventually(health.failing, 0);
    (*runner)->manage({{.uri = kept.uri}}, 100ms);
    EXPECT_TRUE(guests.wait_for(1));
    EXPECT_TRUE(other.wait_for([&] { return other.connections == 0; }));
    int looks = 0;
    kept.change([&](FakeLibvirt& it) {
      it.failing = {"look"};
      looks = it.calls["look"];
    });
    EXPECT_TRUE(guests.wait_for(0));
    EXPECT_TRUE(kept.wait_for([&] { return kept.calls["look"] >= looks + 3; })) << "it is tried again";
    test::expect_eventually(health.connected, 0);
    test::expect_eventually(health.failing, 1);
    kept.change([](FakeLibvirt& it) { it.failing.clear(); });
    EXPECT_TRUE(guests.wait_for(1));
  }
  EXPECT_TRUE(guests.wait_for(0)) << "its end is theirs";
  EXPECT_TRUE(kept.wait_for([&] { return kept.connections == 0; }));
}

}  // namespace
}  // namespace balloon::daemon::libvirt
