// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/tick.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

/// An 8 GiB host with guests that move their balloons when a test says so.
class TickTest : public ::testing::Test {
 protected:
  struct FakeGuest {
    std::string name;
    Session session = 0;
    policy::Bytes actual{};
    policy::Bytes used{};
    int pid = 0;
    std::shared_ptr<test::FakeChannel> channel = std::make_shared<test::FakeChannel>();
    std::size_t answered = 0;

    policy::Bytes wanted() const { return channel->asked.empty() ? actual : channel->asked.back().target; }
  };

  TickTest() { tree_.host("8388608", "7340032"); }

  static policy::rules::PolicyFile quick_policy() {
    policy::rules::PolicyFile policy;
    policy.tunables.hold = std::chrono::seconds(0);
    policy.tunables.shrink_ratio_per_second = 1;
    policy.tunables.need_half_life = std::chrono::milliseconds(100);
    return policy;
  }

  void add(FakeGuest& guest) {
    guest.pid = 100 + static_cast<int>(next_pid_++);
    tree_.process(guest.pid, std::to_string(guest.actual / kKiB));
    guest.channel = std::make_shared<test::FakeChannel>();
    guest.answered = 0;
    const auto session = guests_->joined(test::registration(guest.name, 2 * kGiB, guest.actual),
                                         {.pid = guest.pid, .uid = 0}, guest.channel);
    ASSERT_TRUE(session) << session.error().reason;
    guest.session = *session;
  }
  void say(const FakeGuest& guest) {
    guests_->stats(guest.session,
                   test::sample(2 * kGiB, guest.actual, guest.actual - std::min(guest.actual, guest.used)));
  }
  /// The guest's VMM answers, and its balloon does all that it is asked.
  void obey(FakeGuest& guest) {
    for (; guest.answered < guest.channel->asked.size(); ++guest.answered) {
      guests_->answered(guest.session, Request::Kind::target, guest.channel->asked[guest.answered].sequence,
                        "");
    }
    guest.actual = guest.wanted();
    tree_.process(guest.pid, std::to_string(guest.actual / kKiB));
    const BalloonState update = *test::registration(guest.name, 2 * kGiB, guest.actual).balloon;
    guests_->balloon(guest.session, update);
  }
  void tick() {
    clock_.advance(std::chrono::seconds(1));
    ticker_->tick();
  }
  /// Seconds in which the guest speaks and does as it is told.
  void live(FakeGuest& guest, int seconds) {
    for (int i = 0; i < seconds; ++i) {
      say(guest);
      tick();
      obey(guest);
    }
  }
  policy::Reason reason(const FakeGuest& guest) const {
    return states_.newest()->find(guest.name)->plan.reason;
  }
  policy::GuestState state(const FakeGuest& guest) const {
    return states_.newest()->find(guest.name)->plan.state;
  }

  /// As if the daemon had been killed and started again.
  void restart() {
    ticker_.reset();
    guests_ = std::make_unique<Registry>(clock_, tree_.root());
    ticker_ = std::make_unique<Ticker>(clock_, *guests_, host_, states_, quick_policy());
  }

  test::FakeTree tree_;
  test::FakeClock clock_;
  StateStore states_;
  std::unique_ptr<Registry> guests_ = std::make_unique<Registry>(clock_, tree_.root());
  HostSampler host_ = [this] {
    tree_.host("8388608", "7340032");
    return HostSampler(tree_.root());
  }();
  std::unique_ptr<Ticker> ticker_ =
      std::make_unique<Ticker>(clock_, *guests_, host_, states_, quick_policy());
  unsigned next_pid_ = 0;
};

TEST_F(TickTest, AGuestWithoutStatisticsIsHeld) {
  FakeGuest guest{.name = "a", .actual = kGiB};
  add(guest);
  for (int i = 0; i < 30; ++i) tick();
  EXPECT_TRUE(guest.channel->asked.empty());
  EXPECT_EQ(reason(guest), policy::Reason::stale);
  const auto published = states_.newest();
  EXPECT_EQ(
      explain(*published->find("a"), *published),
      "a has 1 GiB; what it uses and needs is unknown; it may have 360 MiB to 2 GiB. Target 1 GiB: its size "
      "is held, as its balloon driver has sent no statistics. All that it has counts. Statistics that can be "
      "believed would let it be moved.");
}

TEST_F(TickTest, ReversalsAreCountedOfEachGuestForAsLongAsItIsThere) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 300 * kMiB};
  add(guest);
  live(guest, 10);
  ASSERT_LT(guest.actual, kGiB) << "it is shrunk";
  EXPECT_EQ(states_.newest()->find("a")->reversals, 0U);
  guest.used = guest.actual - 20 * kMiB;
  live(guest, 3);
  EXPECT_EQ(states_.newest()->find("a")->reversals, 1U) << "and grown a moment later";
  EXPECT_EQ(ticker_->counters().reversals, 1U);
  guests_->left(guest.session);
  tree_.end_process(guest.pid);
  tick();
  EXPECT_EQ(states_.newest()->find("a"), nullptr);
  add(guest);
  tick();
  EXPECT_EQ(states_.newest()->find("a")->reversals, 0U) << "another guest of that name begins anew";
}

TEST_F(TickTest, MovesAreCountedWithTheirBytesAndTurnBackWithinAMinuteOnly) {
  policy::rules::PolicyFile policy = quick_policy();
  policy.tunables.shrink_ratio_per_second = 0.1;
  ticker_->set_policy(policy);
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 300 * kMiB};
  add(guest);
  live(guest, 5);
  const Counters& counters = ticker_->counters();
  EXPECT_GT(counters.shrinks, 1U);
  EXPECT_EQ(counters.grows, 0U);
  EXPECT_EQ(counters.bytes_shrunk, (2 * kGiB - guest.actual).count());
  EXPECT_EQ(counters.reversals, 0U) << "they go the same way";
  clock_.advance(std::chrono::seconds(61));
  const policy::Bytes before = guest.actual;
  const std::uint64_t shrunk = counters.bytes_shrunk;
  guest.used = guest.actual - 20 * kMiB;
  live(guest, 1);
  ASSERT_GT(guest.actual, before);
  EXPECT_EQ(counters.bytes_grown, (guest.actual - before).count());
  EXPECT_EQ(counters.bytes_shrunk, shrunk);
  EXPECT_EQ(counters.reversals, 0U) << "that was long ago";
}

TEST_F(TickTest, AGuestThatPolicyLeavesAloneIsNotMovedAndCountsByWhatItHolds) {
  auto policy = quick_policy();
  policy.guests.push_back(
      {.name = "hands-off", .labels = {}, .group = {}, .layer = {.values = {.control = false}}});
  ticker_ = std::make_unique<Ticker>(clock_, *guests_, host_, states_, policy);
  FakeGuest alone{.name = "hands-off", .actual = 2 * kGiB, .used = 400 * kMiB};
  FakeGuest other{.name = "other", .actual = 2 * kGiB, .used = 400 * kMiB};
  add(alone);
  add(other);
  for (int i = 0; i < 20; ++i) {
    say(alone);
    say(other);
    tick();
    obey(other);
  }
  EXPECT_TRUE(alone.channel->asked.empty());
  EXPECT_FALSE(other.channel->asked.empty()) << "it is this guest's policy alone";
  const auto state = states_.newest();
  const GuestStatus* const seen = state->find("hands-off");
  EXPECT_EQ(seen->record.balloon.obstacle, "its policy leaves it alone (control: off)");
  EXPECT_EQ(explain(*seen, *state),
            "hands-off has 2 GiB and uses 400 MiB; it may have 360 MiB to 2 GiB. Target 2 GiB: its size is "
            "held, as "
            "its balloon is left alone: its policy leaves it alone (control: off). All that it has counts.");
}

TEST_F(TickTest, WhileControlIsPausedEverythingIsDecidedAndNothingApplied) {
  ControlSwitch control(clock_);
  ticker_ = std::make_unique<Ticker>(clock_, *guests_, host_, states_, quick_policy(), nullptr, nullptr,
                                     nullptr, &control);
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 400 * kMiB};
  add(guest);
  control.pause(std::chrono::seconds(30), "uid 0");
  for (int i = 0; i < 20; ++i) {
    say(guest);
    tick();
  }
  EXPECT_TRUE(guest.channel->asked.empty());
  const auto paused = states_.newest();
  EXPECT_LT(paused->find("a")->plan.target, 2 * kGiB) << "it is decided all the same";
  EXPECT_TRUE(paused->not_applied.starts_with("paused by uid 0 until ")) << paused->not_applied;
  EXPECT_NE(explain(*paused->find("a"), *paused).find("This is not applied: paused by uid 0"),
            std::string::npos);
  for (int i = 0; i < 20; ++i) {
    say(guest);
    tick();
    obey(guest);
  }
  EXPECT_EQ(states_.newest()->not_applied, "") << "30 s are over";
  EXPECT_FALSE(guest.channel->asked.empty());
}

TEST_F(TickTest, APauseEndsADryRunDoesNot) {
  ControlSwitch control(clock_);
  control.set_dry_run(true);
  EXPECT_EQ(control.obstacle(), "dry run");
  control.pause(std::nullopt, "uid 7");
  EXPECT_EQ(control.obstacle(), "paused by uid 7 until somebody resumes it");
  EXPECT_TRUE(control.resume());
  EXPECT_FALSE(control.resume()) << "it was not paused any more";
  EXPECT_EQ(control.obstacle(), "dry run");
  control.set_dry_run(false);
  EXPECT_EQ(control.obstacle(), "");
}

TEST_F(TickTest, AnIdleGuestIsShrunkAndItsStatePublished) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 400 * kMiB};
  add(guest);
  for (int i = 0; i < 20; ++i) {
    say(guest);
    tick();
    obey(guest);
  }
  EXPECT_LT(guest.actual, 700 * kMiB);
  EXPECT_GE(guest.actual, 400 * kMiB);
  const auto newest = states_.newest();
  EXPECT_EQ(newest->revision, 20U);
  EXPECT_EQ(newest->configured, 2 * kGiB);
  EXPECT_EQ(newest->reserve, quick_policy().tunables.host_reserve);
  EXPECT_EQ(newest->find("a")->record.target, guest.actual);
  EXPECT_THAT(explain(*newest->find("a"), *newest), testing::HasSubstr("a has"));
  EXPECT_GT(ticker_->counters().shrinks, 0U);
  EXPECT_EQ(ticker_->counters().grows, 0U);
}

/// What the host sees of a guest's own cgroup comes to the policy.
TEST_F(TickTest, AGuestWhoseProcessWaitsForMemoryIsUnderPressure) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 400 * kMiB};
  tree_.write("/proc/100/cgroup", "0::/vm.slice/a.service\n");
  const std::string cgroup = "/sys/fs/cgroup/vm.slice/a.service/";
  tree_.write(cgroup + "cgroup.procs", "100\n");
  tree_.write(cgroup + "cgroup.stat", "nr_descendants 0\n");
  tree_.write(cgroup + "memory.stat", "workingset_refault_anon 0\n");
  tree_.write(cgroup + "memory.pressure", "some avg10=30.00 avg60=0.00 avg300=0.00 total=1\n");
  add(guest);
  ASSERT_EQ(guest.pid, 100);
  for (int i = 0; i < 5; ++i) {
    say(guest);
    tick();
  }
  EXPECT_EQ(states_.newest()->find("a")->plan.why.signal, policy::Signal::host_pressure);
  EXPECT_EQ(reason(guest), policy::Reason::hold);
  EXPECT_TRUE(guest.channel->asked.empty()) << "it is no guest to take from";
  tree_.write(cgroup + "memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
  for (int i = 0; i < 20; ++i) {
    say(guest);
    tick();
    obey(guest);
  }
  EXPECT_LT(guest.actual, 700 * kMiB);
}

TEST_F(TickTest, AfterARestartWhatIsFoundIsAdoptedWithoutAStep) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 400 * kMiB};
  add(guest);
  for (int i = 0; i < 20; ++i) {
    say(guest);
    tick();
    obey(guest);
  }
  const policy::Bytes before = guest.actual;
  restart();
  add(guest);
  for (int i = 0; i < 5; ++i) tick();
  EXPECT_TRUE(guest.channel->asked.empty()) << "moved before fresh statistics";
  EXPECT_EQ(states_.newest()->find("a")->record.target, before);
  guest.used = before;
  for (int i = 0; i < 5; ++i) {
    say(guest);
    tick();
    obey(guest);
  }
  EXPECT_GT(guest.actual, before) << "control goes on";
}

TEST_F(TickTest, StatisticsThatStopComingHoldTheGuest) {
  FakeGuest guest{.name = "a", .actual = kGiB, .used = 600 * kMiB};
  add(guest);
  say(guest);
  for (int i = 0; i < 12; ++i) {
    tick();
    obey(guest);
  }
  const std::size_t asked = guest.channel->asked.size();
  EXPECT_EQ(reason(guest), policy::Reason::stale);
  EXPECT_EQ(state(guest), policy::GuestState::stale);
  for (int i = 0; i < 5; ++i) tick();
  EXPECT_EQ(guest.channel->asked.size(), asked);
}

TEST_F(TickTest, AGrowWaitsUntilTheShrinkThatPaysForItHasFreedMemory) {
  // Seven guests take the whole host: whoever grows needs another's memory.
  std::vector<FakeGuest> guests;
  for (int i = 0; i < 7; ++i) {
    guests.push_back(
        {.name = std::string(1, static_cast<char>('a' + i)), .actual = kGiB, .used = 300 * kMiB});
  }
  guests[0].used = kGiB - 4 * kMiB;
  policy::rules::PolicyFile policy = quick_policy();
  policy.tunables.reserve_kept_ratio = 1;  // it is others that have to give
  ticker_->set_policy(policy);
  for (FakeGuest& guest : guests) add(guest);
  const auto sum = [&](const auto& of) {
    policy::Bytes total{};
    for (const FakeGuest& guest : guests) total += of(guest);
    return total;
  };
  // What guests and the host's own 640 MiB leave of 8 GiB.
  const auto measure = [&] {
    const policy::Bytes left =
        8 * kGiB - 640 * kMiB - sum([](const FakeGuest& guest) { return guest.actual; });
    tree_.host("8388608", std::to_string(left / kKiB));
  };
  const auto committed = [&] {
    return sum([](const FakeGuest& guest) { return std::max(guest.actual, guest.wanted()); });
  };
  measure();
  for (int i = 0; i < 3; ++i) {  // the others' balloons do not move yet
    for (FakeGuest& guest : guests) say(guest);
    tick();
  }
  EXPECT_FALSE(guests[1].channel->asked.empty()) << "the idle ones are asked to shrink first";
  EXPECT_EQ(committed(), 7 * kGiB) << "nobody grows on memory that is not freed yet";
  EXPECT_TRUE(ticker_->grows_wait());
  for (int i = 0; i < 10; ++i) {
    for (FakeGuest& guest : guests) {
      obey(guest);
      say(guest);
    }
    measure();
    tick();
    EXPECT_LE(committed(), std::max(states_.newest()->budget, 7 * kGiB));
  }
  EXPECT_GT(guests[0].wanted(), kGiB) << explain(*states_.newest()->find("a"), *states_.newest());
}

TEST_F(TickTest, AReservationWaitsUntilMemoryIsFreedForIt) {
  ReservationBook book(clock_);
  ticker_ = std::make_unique<Ticker>(clock_, *guests_, host_, states_, quick_policy(), nullptr, &book);
  std::vector<FakeGuest> guests;
  for (const char* name : {"a", "b", "c"})
    guests.push_back({.name = name, .actual = 2 * kGiB, .used = 300 * kMiB});
  for (FakeGuest& guest : guests) add(guest);
  const auto live = [&] {
    policy::Bytes left = 8 * kGiB - 640 * kMiB;
    for (FakeGuest& guest : guests) {
      left -= guest.actual;
      say(guest);
    }
    tree_.host("8388608", std::to_string(left / kKiB));
    tick();
  };
  live();
  EXPECT_FALSE(ticker_->grows_wait());
  ASSERT_TRUE(book.ask({.id = "d",
                        .min = 3 * kGiB,
                        .max = 3 * kGiB,
                        .within = std::chrono::seconds(60),
                        .lease = std::chrono::seconds(60)},
                       this, [](const ReservationOutcome&) {}));
  live();
  ASSERT_FALSE(book.list().at(0).is_granted());
  EXPECT_TRUE(ticker_->grows_wait());
  for (int i = 0; i < 10; ++i) {
    for (FakeGuest& guest : guests) obey(guest);
    live();
  }
  EXPECT_TRUE(book.list().at(0).is_granted());
  EXPECT_FALSE(ticker_->grows_wait());
}

TEST_F(TickTest, APinIsFollowedUntilItRunsOut) {
  FakeGuest guest{.name = "a", .actual = kGiB, .used = 800 * kMiB};
  add(guest);
  say(guest);
  tick();
  obey(guest);
  ASSERT_TRUE(guests_->set_pin("a", 1536 * kMiB, std::chrono::seconds(3)));
  say(guest);
  tick();
  EXPECT_EQ(guest.wanted(), 1536 * kMiB);
  EXPECT_EQ(state(guest), policy::GuestState::pinned);
  obey(guest);
  for (int i = 0; i < 8; ++i) {
    say(guest);
    tick();
    obey(guest);
  }
  EXPECT_NE(state(guest), policy::GuestState::pinned);
  EXPECT_LT(guest.actual, 1300 * kMiB);
}

/// Somebody else sets the balloon of a guest that has been at our target.
TEST_F(TickTest, ABalloonThatSomebodyElseMovesIsLeftAloneForTheTimeThatPolicySays) {
  using rules_hands = policy::rules::OtherHands;
  for (const auto& [then, time] : {std::pair{rules_hands::Then::yield, std::chrono::minutes(10)},
                                   std::pair{rules_hands::Then::take_it_back, std::chrono::minutes(1)}}) {
    SCOPED_TRACE(time.count());
    restart();
    policy::rules::PolicyFile policy = quick_policy();
    policy.other_hands = {.then = then, .time = time};
    ticker_->set_policy(policy);
    FakeGuest guest{.name = "a", .actual = 1536 * kMiB, .used = 400 * kMiB};
    add(guest);
    for (int i = 0; i < 5; ++i) {
      say(guest);
      tick();
      obey(guest);
    }
    ASSERT_LT(guest.actual, 1300 * kMiB) << "it has more than it needs";
    const std::size_t asked = guest.channel->asked.size();
    guest.actual = 700 * kMiB;
    guests_->balloon(guest.session, *test::registration("a", 2 * kGiB, guest.actual).balloon);
    for (auto left = std::chrono::seconds(time); left.count() > 1; --left) {
      say(guest);
      tick();
      ASSERT_EQ(guest.channel->asked.size(), asked) << left.count() << " s before the time is over";
      ASSERT_TRUE(states_.newest()->find("a")->contested_until);
    }
    const std::string explained = explain(*states_.newest()->find("a"), *states_.newest());
    for (const char* part :
         {"somebody else moved its balloon from ", "left alone for ", " s more, until ", "Z."})
      EXPECT_NE(explained.find(part), std::string::npos) << part << " in: " << explained;
    guest.used = 650 * kMiB;
    for (int i = 0; i < 5; ++i) {
      say(guest);
      tick();
      obey(guest);
    }
    EXPECT_GT(guest.channel->asked.size(), asked) << "the time is over, and it needs more";
    EXPECT_FALSE(states_.newest()->find("a")->contested_until);
  }
}

TEST_F(TickTest, AGuestThatIsLostMidPlanIsCountedAtItsLargerSizeUntilItsProcessEnds) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 400 * kMiB};
  add(guest);
  for (int i = 0; i < 2; ++i) {
    say(guest);
    tick();
  }
  ASSERT_FALSE(guest.channel->asked.empty());
  guests_->left(guest.session);
  tick();
  EXPECT_EQ(state(guest), policy::GuestState::disconnected);
  EXPECT_EQ(states_.newest()->committed, 2 * kGiB);
  tree_.end_process(100);
  tick();
  EXPECT_EQ(states_.newest()->guests.size(), 0U);
}

TEST_F(TickTest, NewPolicyCountsFromTheNextTickOn) {
  FakeGuest guest{.name = "a", .actual = kGiB, .used = 100 * kMiB};
  add(guest);
  tick();
  EXPECT_EQ(states_.newest()->find("a")->limits.min, 360 * kMiB) << "Hyper-V's floor for 2 GiB";
  policy::rules::PolicyFile policy = quick_policy();
  policy.defaults.values.min = policy::rules::SizeRule{.bytes = 512 * kMiB};
  ticker_->set_policy(policy);
  tick();
  EXPECT_EQ(states_.newest()->find("a")->limits.min, 512 * kMiB);
}

TEST_F(TickTest, AShadowPolicyIsEvaluatedByItsOwnLimitsAndMovesNothing) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 400 * kMiB};
  add(guest);
  policy::rules::PolicyFile policy = quick_policy();
  policy::rules::PolicyFile shadow = quick_policy();
  shadow.defaults.values.min = policy::rules::SizeRule{.bytes = 1536 * kMiB};
  policy.shadow = std::make_shared<const policy::rules::PolicyFile>(shadow);
  ticker_->set_policy(policy);
  for (int i = 0; i < 20; ++i) {
    say(guest);
    tick();
    obey(guest);
  }
  EXPECT_LT(guest.actual, 700 * kMiB) << "the live policy alone moves it";
  EXPECT_EQ(ticker_->counters().shadow_decisions, 20U);
  EXPECT_GT(ticker_->counters().shadow_different, 10U) << "by the shadow's it keeps 1.5 GiB";
  ticker_->set_policy(quick_policy());
  tick();
  EXPECT_EQ(ticker_->counters().shadow_decisions, 20U) << "the new policy has no shadow";
  policy.shadow = std::make_shared<const policy::rules::PolicyFile>(quick_policy());
  ticker_->set_policy(policy);
  const std::uint64_t different = ticker_->counters().shadow_different;
  say(guest);
  tick();
  EXPECT_EQ(ticker_->counters().shadow_decisions, 21U);
  EXPECT_EQ(ticker_->counters().shadow_different, different) << "it decides the same";
}

TEST_F(TickTest, AScheduleCountsFromTheTickAfterItBegins) {
  FakeGuest guest{.name = "a", .actual = kGiB, .used = 100 * kMiB};
  add(guest);
  policy::rules::PolicyFile policy = quick_policy();
  // The clock stands at 22:30 UTC on a Tuesday.
  policy.defaults.schedules.push_back(
      {.place = {},
       .when = {.windows = {{.from = 22 * 60 + 31}}, .zone = policy::rules::Zone::utc},
       .values = {.min = policy::rules::SizeRule{.bytes = 512 * kMiB}}});
  ticker_->set_policy(policy);
  tick();
  EXPECT_EQ(states_.newest()->find("a")->limits.min, 360 * kMiB);
  clock_.advance(std::chrono::minutes(1));
  tick();
  EXPECT_EQ(states_.newest()->find("a")->limits.min, 512 * kMiB);
}

TEST_F(TickTest, AGuestIsKeptFromKsmWherePolicySaysSoAndNothingIsTurnedOnOtherwise) {
  FakeGuest guest{.name = "a", .actual = kGiB};
  add(guest);
  tick();
  EXPECT_TRUE(guest.channel->merging_asked.empty());
  policy::rules::PolicyFile policy = quick_policy();
  policy.defaults.values.ksm = false;
  ticker_->set_policy(policy);
  tick();
  tick();
  ASSERT_EQ(guest.channel->merging_asked.size(), 1U);
  EXPECT_FALSE(guest.channel->merging_asked[0].second);
  guests_->answered(guest.session, Request::Kind::merging, guest.channel->merging_asked[0].first, "");
  for (int i = 0; i < 20; ++i) tick();
  EXPECT_EQ(guest.channel->merging_asked.size(), 1U) << "it is so";
}

TEST_F(TickTest, AHostThatCannotBeSampledMovesNothingAndIsCounted) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = 100 * kMiB};
  add(guest);
  say(guest);
  tree_.write("/proc/meminfo", "");
  tick();
  EXPECT_TRUE(guest.channel->asked.empty());
  EXPECT_EQ(ticker_->counters().failed_ticks, 1U);
}

TEST_F(TickTest, OnAHostThatIsShortOfMemoryGuestsAreAskedForFreshStatistics) {
  FakeGuest guest{.name = "a", .actual = 2 * kGiB, .used = kGiB};
  add(guest);
  say(guest);
  tick();
  EXPECT_TRUE(guest.channel->stats_asked.empty()) << "there is no hurry";
  tree_.host("8388608", "100000");  // 98 MiB are left
  tick();
  EXPECT_GE(states_.newest()->host_state, policy::HostState::critical);
  EXPECT_EQ(guest.channel->stats_asked.size(), 1U);
  EXPECT_EQ(ticker_->counters().stats_requests, 1U);
}

/// What honest guests have on a tight host, while `liars` names of one process claim 64 TiB each.
class LiarTest : public TickTest {
 protected:
  policy::Bytes honest_targets(int liars) {
    restart();
    tree_.process(666, "34816");  // 34 MiB
    tree_.write("/proc/666/maps", "7f0000000000-7f0001000000 rw-p 00000000 00:00 0\n");
    std::vector<FakeGuest> guests(5);
    for (std::size_t i = 0; i < guests.size(); ++i) {
      guests[i] = {.name = "g" + std::to_string(i), .actual = kGiB, .used = 1800 * kMiB};
      add(guests[i]);
    }
    const auto channel = std::make_shared<test::FakeChannel>();
    for (int i = 0; i < liars; ++i) {
      const auto claim = test::registration("liar" + std::to_string(i), 65536 * kGiB, 65536 * kGiB);
      EXPECT_TRUE(guests_->joined(claim, {.pid = 666, .uid = 0}, channel));
    }
    for (int second = 0; second < 60; ++second) {
      for (FakeGuest& guest : guests) say(guest);
      tick();
      for (FakeGuest& guest : guests) obey(guest);
    }
    state_ = states_.newest()->host_state;
    policy::Bytes sum{};
    for (const FakeGuest& guest : guests) sum += guest.actual;
    return sum;
  }
  policy::HostState state_{};
};

TEST_F(LiarTest, NeighboursHaveWhatTheyWouldHaveWithoutIt) {
  const policy::Bytes without = honest_targets(0);
  const policy::HostState state = state_;
  const policy::Bytes beside_one = honest_targets(1);
  EXPECT_EQ(state_, state);
  EXPECT_GE(beside_one + 40 * kMiB, without) << "a process of 34 MiB counts for no more";
}

TEST_F(LiarTest, TwentyNamesOfAProcessAreNoMoreThanOne) {
  const policy::Bytes without = honest_targets(0);
  const policy::HostState state = state_;
  const policy::Bytes beside_twenty = honest_targets(20);
  EXPECT_EQ(state_, state);
  EXPECT_GE(beside_twenty + 40 * kMiB, without);
}

}  // namespace
}  // namespace balloon::daemon
