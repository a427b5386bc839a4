#include "balloond/control/loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;
using namespace std::chrono_literals;

/// A loop whose period is so long that only events make it tick.
class LoopTest : public ::testing::Test {
 protected:
  LoopTest() { tree_.host("8388608", "7340032"); }
  void start(std::chrono::nanoseconds period = 60s) {
    host_.emplace(tree_.root());
    ticker_.emplace(clock_, guests_, *host_, states_, policy::rules::PolicyFile());
    loop_.emplace(
        clock_, *ticker_, period,
        [this](std::chrono::nanoseconds, std::chrono::nanoseconds lateness) { lateness_ = lateness; });
    guests_.on_change([this](const GuestChange& change) { loop_->guest_changed(change); });
    ASSERT_TRUE(loop_->start(UniqueFd()));
    ASSERT_TRUE(reaches(1));
  }
  bool reaches(std::uint64_t revision, std::chrono::milliseconds limit = 10s) const {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (states_.newest()->revision < revision) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }
  Session join() {
    tree_.process(42, "1024");
    return guests_
        .joined(test::registration("a", 2 * kGiB, kGiB), {.pid = 42, .uid = 0},
                std::make_shared<test::FakeChannel>())
        .value_or(0);
  }

  test::FakeTree tree_;
  SystemClock clock_;
  StateStore states_;
  Registry guests_{clock_, tree_.root()};
  std::optional<HostSampler> host_;
  std::optional<Ticker> ticker_;
  std::atomic<std::chrono::nanoseconds> lateness_{};
  std::optional<ControlLoop> loop_;
};

TEST_F(LoopTest, TicksEveryPeriod) {
  start(100ms);
  EXPECT_TRUE(reaches(4));
}

TEST_F(LoopTest, AGuestThatJoinsIsSeenAtOnce) {
  start();
  join();
  ASSERT_TRUE(reaches(2));
  EXPECT_NE(states_.newest()->find("a"), nullptr);
}

TEST_F(LoopTest, AGuestThatReportsPressureIsServedAtOnceAndOneThatDoesNotWaits) {
  start();
  const Session session = join();
  ASSERT_TRUE(reaches(2));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 500 * kMiB));
  EXPECT_FALSE(reaches(3, 400ms));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 10 * kMiB));
  EXPECT_TRUE(reaches(3));
}

TEST_F(LoopTest, AGuestThatIsOnItsWayToMoreThanItHasRoomForIsServedAtOnce) {
  start();
  const Session session = join();
  ASSERT_TRUE(reaches(2));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 500 * kMiB));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 480 * kMiB));
  EXPECT_FALSE(reaches(3, 400ms)) << "20 MiB more are nothing";
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 400 * kMiB));
  EXPECT_TRUE(reaches(3)) << "80 MiB in a second, and no room to double";
}

TEST_F(LoopTest, AFloodOfEventsDoesNotMakeItSpin) {
  start();
  const Session session = join();
  ASSERT_TRUE(reaches(2));
  const auto end = std::chrono::steady_clock::now() + 500ms;
  while (std::chrono::steady_clock::now() < end) {
    guests_.stats(session, test::sample(2 * kGiB, kGiB, kMiB));
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_LE(states_.newest()->revision, 10U) << "at most one tick in 100 ms";
}

TEST_F(LoopTest, AGuestThatStaysShortWaitsForThePeriod) {
  start();
  const Session session = join();
  ASSERT_TRUE(reaches(2));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 10 * kMiB));
  ASSERT_TRUE(reaches(3));
  const auto end = std::chrono::steady_clock::now() + 1200ms;
  while (std::chrono::steady_clock::now() < end) {
    guests_.stats(session, test::sample(2 * kGiB, kGiB, 10 * kMiB));
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_EQ(states_.newest()->revision, 3U) << "what it says was decided on already";
}

TEST_F(LoopTest, AGuestThatIsShortOfMoreThanBeforeIsServedAtOnce) {
  start();
  const Session session = join();
  ASSERT_TRUE(reaches(2));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 60 * kMiB));
  ASSERT_TRUE(reaches(3));
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 10 * kMiB));
  EXPECT_TRUE(reaches(4, 300ms));
}

/// Makes each tick take this long.
class SlowReader final : public StateStore::Reader {
 public:
  explicit SlowReader(std::chrono::milliseconds takes) : takes_(takes) {}
  void state_changed() override { std::this_thread::sleep_for(takes_); }

 private:
  const std::chrono::milliseconds takes_;
};

TEST_F(LoopTest, TicksThatTakeTheirTimeDoNotMakeThePeriodLonger) {
  const auto reader = std::make_shared<SlowReader>(200ms);
  states_.subscribe(reader);
  const auto begin = std::chrono::steady_clock::now();
  start(400ms);
  ASSERT_TRUE(reaches(6));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2700ms)
      << "five periods and a tick; 3.0 s with each tick added";
}

TEST_F(LoopTest, PeriodsThatWereMissedAreNotMadeUpFor) {
  const auto reader = std::make_shared<SlowReader>(500ms);
  states_.subscribe(reader);
  start(200ms);
  ASSERT_TRUE(reaches(4));
  EXPECT_LT(lateness_.load(), 200ms) << "it is due at the next whole period";
}

TEST_F(LoopTest, AGuestThatIsLowForEverIsLookedAtWithTheOthersAfterAWhile) {
  start();
  const Session session = join();
  ASSERT_TRUE(reaches(2));
  const auto end = std::chrono::steady_clock::now() + 6s;
  for (int i = 0; std::chrono::steady_clock::now() < end; ++i) {  // each second sample is news
    guests_.stats(session, test::sample(2 * kGiB, kGiB, (i % 2 == 0 ? 60 : 10) * kMiB));
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_LE(states_.newest()->revision, 45U) << "thirty at ten a second, and then one a second";
}

TEST_F(LoopTest, AStormOfPinsDoesNotMakeItSpin) {
  start();
  join();
  ASSERT_TRUE(reaches(2));
  for (int i = 0; i < 300; ++i) {
    guests_.set_pin("a", kGiB, 60s);
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_LE(states_.newest()->revision, 45U);
}

TEST_F(LoopTest, APinAndItsEndAreSeenAtOnce) {
  start();
  join();
  ASSERT_TRUE(reaches(2));
  guests_.set_pin("a", kGiB, 60s);
  ASSERT_TRUE(reaches(3));
  guests_.clear_pin("a");
  EXPECT_TRUE(reaches(4));
}

TEST_F(LoopTest, ItStopsAtOnce) {
  start();
  const auto begin = std::chrono::steady_clock::now();
  loop_->stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
}

TEST(LoopStallTest, ALoopThatDoesNotTickForFivePeriodsIsStalled) {
  const test::FakeTree tree;
  tree.host("8388608", "7340032");
  test::FakeClock clock;
  StateStore states;
  Registry guests(clock, tree.root());
  HostSampler host(tree.root());
  Ticker ticker(clock, guests, host, states, policy::rules::PolicyFile());
  const ControlLoop loop(clock, ticker, 1s, [](std::chrono::nanoseconds, std::chrono::nanoseconds) {});
  clock.advance(5s);
  EXPECT_FALSE(loop.stalled());
  clock.advance(1ms);
  EXPECT_TRUE(loop.stalled());
}

}  // namespace
}  // namespace balloon::daemon
