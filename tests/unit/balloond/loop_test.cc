// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;
using namespace std::chrono_literals;

/// A host of 8 GiB, most of which is free.
class HostTree : public test::FakeTree {
 public:
  HostTree() { host("8388608", "7340032"); }
};

/// A control loop whose ticks the test makes when they are due, by a clock of its own.
class LoopTest : public ::testing::Test {
 protected:
  /// Its period is so long that only events make it tick.
  void start(std::chrono::nanoseconds period = 60s) {
    loop_.emplace(
        clock_, ticker_, period,
        [this](std::chrono::nanoseconds, std::chrono::nanoseconds lateness) { lateness_ = lateness; });
    guests_.on_change([this](const GuestChange& change) { loop_->guest_changed(change); });
    go_on(0s);
    ASSERT_EQ(ticks(), 1U) << "it begins with a tick";
  }
  /// As the loop's thread does for so long.
  void go_on(std::chrono::nanoseconds duration) {
    const Time end = clock_.now() + duration;
    while (loop_->due() <= end) {
      clock_.advance(std::max(loop_->due() - clock_.now(), Time(0)));
      loop_->tick();
    }
    clock_.advance(std::max(end - clock_.now(), Time(0)));
  }
  std::uint64_t ticks() const { return loop_->ticks(); }

  /// A guest that has been seen.
  Session join() {
    tree_.process(42, "1024");
    const Session session = guests_
                                .joined(test::registration("a", 2 * kGiB, kGiB), {.pid = 42, .uid = 0},
                                        std::make_shared<test::FakeChannel>())
                                .value_or(0);
    go_on(1s);
    EXPECT_EQ(ticks(), 2U);
    return session;
  }
  void reports(Session session, policy::Bytes available) {
    guests_.stats(session, test::sample(2 * kGiB, kGiB, available));
  }

  HostTree tree_;
  test::FakeClock clock_;
  StateStore states_;
  Registry guests_{clock_, tree_.root()};
  HostSampler host_{tree_.root()};
  ReservationBook reservations_{clock_};
  Ticker ticker_{clock_, guests_, host_, states_, policy::rules::PolicyFile(), nullptr, &reservations_};
  std::chrono::nanoseconds lateness_{};
  std::optional<ControlLoop> loop_;
};

TEST_F(LoopTest, TicksEveryPeriod) {
  start(100ms);
  go_on(300ms);
  EXPECT_EQ(ticks(), 4U);
}

TEST_F(LoopTest, AGuestThatJoinsIsSeenAtOnce) {
  start();
  join();
  EXPECT_NE(states_.newest()->find("a"), nullptr);
}

TEST_F(LoopTest, WhatAnEventCallsForIsNotLateBeforeTheEvent) {
  start();
  go_on(5s);  // since the last decision
  join();
  EXPECT_EQ(lateness_, 0s);
}

TEST_F(LoopTest, AGuestThatReportsPressureIsServedAtOnceAndOneThatDoesNotWaits) {
  start();
  const Session session = join();
  reports(session, 500 * kMiB);
  go_on(10s);
  EXPECT_EQ(ticks(), 2U);
  reports(session, 10 * kMiB);
  go_on(100ms);
  EXPECT_EQ(ticks(), 3U);
}

TEST_F(LoopTest, AGuestThatIsOnItsWayToMoreThanItHasRoomForIsServedAtOnce) {
  start();
  const Session session = join();
  reports(session, 500 * kMiB);
  clock_.advance(1s);
  reports(session, 480 * kMiB);
  go_on(1s);
  EXPECT_EQ(ticks(), 2U) << "20 MiB more are nothing";
  reports(session, 400 * kMiB);
  go_on(100ms);
  EXPECT_EQ(ticks(), 3U) << "80 MiB in a second, and no room to double";
}

TEST_F(LoopTest, AFloodOfEventsDoesNotMakeItSpin) {
  start();
  const Session session = join();
  for (int i = 0; i < 500; ++i) {
    reports(session, kMiB);
    go_on(1ms);
  }
  EXPECT_LE(ticks(), 2U + 5) << "at most one tick in 100 ms";
}

TEST_F(LoopTest, AGuestThatStaysShortWaitsForThePeriod) {
  start();
  const Session session = join();
  reports(session, 10 * kMiB);
  go_on(100ms);
  ASSERT_EQ(ticks(), 3U);
  for (int i = 0; i < 1000; ++i) {
    reports(session, 10 * kMiB);
    go_on(20ms);
  }
  EXPECT_EQ(ticks(), 3U) << "what it says was decided on already";
}

TEST_F(LoopTest, AGuestThatIsShortIsServedAgainOnceItUsesAFiftiethMore) {
  start();
  const Session session = join();
  reports(session, 40 * kMiB);
  go_on(1s);
  ASSERT_EQ(ticks(), 3U);
  reports(session, 25 * kMiB);  // 15 MiB of 984
  go_on(1s);
  EXPECT_EQ(ticks(), 3U);
  reports(session, 4 * kMiB);  // 21 MiB of 999
  go_on(1s);
  EXPECT_EQ(ticks(), 4U);
}

TEST_F(LoopTest, AGuestThatBecomesShortIsServedAtOnceHoweverLittleItRises) {
  start();
  const Session session = join();
  const policy::Tunables tunables;
  policy::Bytes enough = kMiB;
  while (policy::is_urgent({.actual = kGiB, .available = enough}, tunables.margin_min, tunables.margin_ratio))
    enough += kMiB;
  reports(session, enough);
  go_on(1s);
  EXPECT_EQ(ticks(), 2U);
  reports(session, enough - kMiB);
  go_on(1s);
  EXPECT_EQ(ticks(), 3U);
}

TEST_F(LoopTest, WhileAReservationWaitsForMemoryThatIsFreedIsWorthATick) {
  start();
  const Session session = join();
  const auto move = [&](policy::Bytes actual) {
    guests_.balloon(session, *test::registration("a", 2 * kGiB, actual).balloon);
    go_on(100ms);
  };
  move(kGiB - kMiB);
  EXPECT_EQ(ticks(), 2U) << "nobody waits for it";
  reports(session, 900 * kMiB);
  std::string refused;
  ASSERT_TRUE(
      reservations_.ask({.id = "b", .min = 6400 * kMiB, .max = 6400 * kMiB, .within = 600s, .lease = 60s},
                        this, [&refused](const ReservationOutcome& outcome) { refused = outcome.reason; }));
  loop_->reservations_changed();
  go_on(1s);
  ASSERT_EQ(ticks(), 3U);
  ASSERT_EQ(reservations_.list().size(), 1U) << refused;
  ASSERT_FALSE(reservations_.list().front().is_granted());
  move(kGiB - 2 * kMiB);
  EXPECT_EQ(ticks(), 4U);
}

TEST_F(LoopTest, ANewPolicyAndItsPeriodCountFromNowOn) {
  start();
  policy::rules::PolicyFile policy;
  policy.tunables.margin_min = 77 * kMiB;
  loop_->set_policy(policy, 1s);
  EXPECT_EQ(ticker_.policy().tunables.margin_min, policy::Tunables().margin_min)
      << "the loop's thread takes it";
  go_on(10ms);
  ASSERT_EQ(ticks(), 2U);
  EXPECT_EQ(ticker_.policy().tunables.margin_min, 77 * kMiB);
  EXPECT_EQ(loop_->stall_after(), 5s);
}

TEST_F(LoopTest, ATickThatBeginsLateSaysByHowMuch) {
  start(100ms);
  clock_.advance(350ms);
  loop_->tick();
  EXPECT_EQ(lateness_, 250ms);
}

TEST_F(LoopTest, AGuestThatIsShortOfMoreThanBeforeIsServedAtOnce) {
  start();
  const Session session = join();
  reports(session, 60 * kMiB);
  go_on(1s);
  ASSERT_EQ(ticks(), 3U);
  reports(session, 10 * kMiB);
  go_on(100ms);
  EXPECT_EQ(ticks(), 4U);
}

/// Makes each tick take this long.
class SlowReader final : public StateStore::Reader {
 public:
  SlowReader(test::FakeClock& clock, std::chrono::nanoseconds takes) : clock_(clock), takes_(takes) {}
  void state_changed() override { clock_.advance(takes_); }

 private:
  test::FakeClock& clock_;
  const std::chrono::nanoseconds takes_;
};

TEST_F(LoopTest, TicksThatTakeTheirTimeDoNotMakeThePeriodLonger) {
  const auto reader = std::make_shared<SlowReader>(clock_, 200ms);
  states_.subscribe(reader);
  start(400ms);
  go_on(10 * 400ms - 200ms);
  EXPECT_EQ(ticks(), 11U) << "one a period; 7 with each tick added";
}

TEST_F(LoopTest, PeriodsThatWereMissedAreNotMadeUpFor) {
  const auto reader = std::make_shared<SlowReader>(clock_, 500ms);
  states_.subscribe(reader);
  start(200ms);
  go_on(6s - 500ms);
  EXPECT_EQ(ticks(), 11U) << "one each 600 ms";
  EXPECT_EQ(lateness_, 0s) << "it is due at the next whole period";
}

TEST_F(LoopTest, AGuestThatIsLowForEverIsLookedAtWithTheOthersAfterAWhile) {
  start();
  const Session session = join();
  for (int i = 0; i < 2000; ++i) {  // each second sample is news
    reports(session, (i % 2 == 0 ? 60 : 10) * kMiB);
    go_on(10ms);
  }
  EXPECT_LE(ticks(), 2U + 50) << "thirty at ten a second, and then one a second";
}

TEST_F(LoopTest, AStormOfPinsDoesNotMakeItSpin) {
  start();
  join();
  for (int i = 0; i < 2000; ++i) {
    guests_.set_pin("a", kGiB, 60s);
    go_on(10ms);
  }
  EXPECT_LE(ticks(), 2U + 50) << "thirty at once, and then one a second";
}

TEST_F(LoopTest, APinAndItsEndAreSeenAtOnce) {
  start();
  join();
  guests_.set_pin("a", kGiB, 60s);
  go_on(10ms);
  ASSERT_EQ(ticks(), 3U);
  guests_.clear_pin("a");
  go_on(10ms);
  EXPECT_EQ(ticks(), 4U);
}

TEST_F(LoopTest, ALoopThatDoesNotTickForFivePeriodsIsStalled) {
  start(1s);
  clock_.advance(5s);
  EXPECT_FALSE(loop_->stalled());
  clock_.advance(1ms);
  EXPECT_TRUE(loop_->stalled());
}

/// With its thread, and Linux' clock: what happens is waited for.
class LoopThreadTest : public ::testing::Test {
 protected:
  void start(std::chrono::nanoseconds period, UniqueFd pressure = {}) {
    loop_.emplace(clock_, ticker_, period, [](std::chrono::nanoseconds, std::chrono::nanoseconds) {});
    ASSERT_TRUE(loop_->start(std::move(pressure)));
    wait_for_tick(1);
  }
  /// For ever if it does not come: the test runner has a limit.
  void wait_for_tick(std::uint64_t number) const {
    while (loop_->ticks() < number) std::this_thread::sleep_for(1ms);
  }

  HostTree tree_;
  SystemClock clock_;
  StateStore states_;
  Registry guests_{clock_, tree_.root()};
  HostSampler host_{tree_.root()};
  Ticker ticker_{clock_, guests_, host_, states_, policy::rules::PolicyFile()};
  std::optional<ControlLoop> loop_;
};

TEST_F(LoopThreadTest, TicksEachPeriodByItself) {
  start(10ms);
  wait_for_tick(5);
}

TEST_F(LoopThreadTest, AnEventEndsItsWait) {
  start(24h);
  loop_->reservations_changed();
  wait_for_tick(2);
}

TEST_F(LoopThreadTest, TheHostsPressureEndsItsWait) {
  // Urgent data of a connection is polled as the kernel's pressure trigger is.
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{
      .sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener.get(), any, size), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), any, &size), 0);
  const UniqueFd kernel(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(::connect(kernel.get(), any, size), 0);
  start(24h, UniqueFd(::accept(listener.get(), nullptr, nullptr)));
  ASSERT_EQ(::send(kernel.get(), "!", 1, MSG_OOB), 1);
  wait_for_tick(2);
}

TEST_F(LoopThreadTest, APressureTriggerThatIsGoneIsLetGoAndTheRestGoesOn) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  ::close(pipe[0]);  // the other end polls as an error
  start(24h, UniqueFd(pipe[1]));
  while (::fcntl(pipe[1], F_GETFD) >= 0) std::this_thread::sleep_for(1ms);
  loop_->reservations_changed();
  wait_for_tick(2);
}

TEST_F(LoopThreadTest, StopEndsItsWait) {
  start(24h);
  loop_->stop();
  EXPECT_EQ(loop_->ticks(), 1U);
}

}  // namespace
}  // namespace balloon::daemon
