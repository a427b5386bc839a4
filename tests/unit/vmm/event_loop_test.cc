// SPDX-License-Identifier: Apache-2.0
#include "vmm/event_loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "tests/unit/vmm/manual_clock.h"

namespace balloon::vmm {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""h;
using std::chrono_literals::operator""us;

constexpr std::chrono::seconds kPatience{30};

bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

void signal(const UniqueFd& event) {
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
}

class EventLoopTest : public ::testing::Test {
 protected:
  test::ManualClock clock_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("a-name-longer-than-fifteen", clock_);
};

TEST_F(EventLoopTest, CallsBackOnItsThreadWithAllSignalsBlocked) {
  std::atomic<bool> called = false;
  std::thread::id thread;
  sigset_t blocked;
  const UniqueFd event = *loop_->watch_event([&] {
    thread = std::this_thread::get_id();
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    called = true;
  });
  signal(event);
  ASSERT_TRUE(eventually([&] { return called.load(); }));
  loop_->unwatch(event.get());
  EXPECT_NE(thread, std::this_thread::get_id());
  EXPECT_EQ(sigismember(&blocked, SIGTERM), 1);
  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  EXPECT_EQ(sigismember(&mine, SIGTERM), 0) << "the maker's mask is as before";
}

TEST_F(EventLoopTest, AnEventCallsOnceForAllItsSignals) {
  std::atomic<int> calls = 0;
  std::atomic<bool> go = false;
  const UniqueFd blocker = *loop_->watch_event([&] { eventually([&] { return go.load(); }); });
  const UniqueFd event = *loop_->watch_event([&] { ++calls; });
  signal(blocker);
  for (int i = 0; i < 5; ++i) signal(event);
  go = true;
  EXPECT_TRUE(eventually([&] { return calls == 1; }));
  test::catch_up(*loop_);
  EXPECT_EQ(calls, 1);
  loop_->unwatch(event.get());
  loop_->unwatch(blocker.get());
}

TEST_F(EventLoopTest, AWatchIsLevelTriggered) {
  std::atomic<int> calls = 0;
  const UniqueFd event(::eventfd(1, EFD_NONBLOCK));
  ASSERT_TRUE(loop_->watch(event.get(), [&] { ++calls; }));
  EXPECT_TRUE(eventually([&] { return calls > 3; }));
  loop_->unwatch(event.get());
  const int after = calls;
  test::catch_up(*loop_);
  EXPECT_EQ(calls, after);
}

TEST_F(EventLoopTest, UnwatchWaitsForTheRunningCallback) {
  std::atomic<bool> entered = false;
  std::atomic<bool> left = false;
  const UniqueFd event = *loop_->watch_event([&] {
    entered = true;
    std::this_thread::sleep_for(100ms);
    left = true;
  });
  signal(event);
  ASSERT_TRUE(eventually([&] { return entered.load(); }));
  loop_->unwatch(event.get());
  EXPECT_TRUE(left);
}

TEST_F(EventLoopTest, UnwatchFreesWhatTheCallbackHolds) {
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = held;
  std::atomic<int> calls = 0;
  const UniqueFd event = *loop_->watch_event([held, &calls] { ++calls; });
  held.reset();
  signal(event);
  ASSERT_TRUE(eventually([&] { return calls > 0; }));
  loop_->unwatch(event.get());
  EXPECT_TRUE(watched.expired());
}

TEST_F(EventLoopTest, ACallbackMayUnwatchItself) {
  std::atomic<int> calls = 0;
  const UniqueFd event(::eventfd(1, EFD_NONBLOCK));  // stays readable
  auto held = std::make_shared<int>(7);
  ASSERT_TRUE(loop_->watch(event.get(), [&, held] {
    loop_->unwatch(event.get());
    calls += *held;  // what it captured is still there
  }));
  EXPECT_TRUE(eventually([&] { return calls > 0; }));
  test::catch_up(*loop_);
  EXPECT_EQ(calls, 7);
}

TEST_F(EventLoopTest, ACallbackMayUnwatchAnotherWhoseEventIsAlreadyPending) {
  std::atomic<int> others = 0;
  std::atomic<bool> done = false;
  UniqueFd first(::eventfd(1, EFD_NONBLOCK));
  UniqueFd second(::eventfd(1, EFD_NONBLOCK));
  // Whichever comes first takes the other off.
  std::atomic<bool> go = false;
  const UniqueFd blocker = *loop_->watch_event([&] { eventually([&] { return go.load(); }); });
  signal(blocker);
  const auto take_off = [&](int self, int other) {
    loop_->unwatch(other);
    loop_->unwatch(self);
    ++others;
    done = true;
  };
  ASSERT_TRUE(loop_->watch(first.get(), [&] { take_off(first.get(), second.get()); }));
  ASSERT_TRUE(loop_->watch(second.get(), [&] { take_off(second.get(), first.get()); }));
  go = true;
  EXPECT_TRUE(eventually([&] { return done.load(); }));
  test::catch_up(*loop_);
  EXPECT_EQ(others, 1);
  loop_->unwatch(blocker.get());
}

TEST_F(EventLoopTest, AReusedDescriptorDoesNotReachTheOldCallback) {
  std::atomic<int> old_calls = 0;
  std::atomic<int> new_calls = 0;
  for (int round = 0; round < 200; ++round) {
    UniqueFd event = *loop_->watch_event([&] { ++old_calls; });
    loop_->unwatch(event.get());
    event.reset();
    event = *loop_->watch_event([&] { ++new_calls; });  // mostly the same number
    signal(event);
    ASSERT_TRUE(eventually([&] { return new_calls == round + 1; }));
    loop_->unwatch(event.get());
  }
  EXPECT_EQ(old_calls, 0);
}

TEST_F(EventLoopTest, WatchesComeAndGoFromManyThreads) {
  std::vector<std::jthread> threads;
  std::atomic<int> calls = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        auto alive = std::make_unique<std::atomic<bool>>(true);
        const UniqueFd event =
            *loop_->watch_event([&calls, alive = alive.get()] { calls += alive->load() ? 1 : 0; });
        signal(event);
        loop_->unwatch(event.get());
        alive.reset();
      }
    });
  }
  threads.clear();
  EXPECT_GE(calls, 0);
}

TEST_F(EventLoopTest, ADescriptorThatCannotBeWatchedIsAnError) {
  EXPECT_FALSE(loop_->watch(-1, [] {}));
  const UniqueFd event(::eventfd(0, 0));
  ASSERT_TRUE(loop_->watch(event.get(), [] {}));
  EXPECT_FALSE(loop_->watch(event.get(), [] {})) << "twice";
  loop_->unwatch(event.get());
  loop_->unwatch(event.get());  // not watched any more: nothing
}

TEST_F(EventLoopTest, ATimerIsPeriodicUntilStopped) {
  std::atomic<int> ticks = 0;
  const auto timer = *loop_->timer([&] { ++ticks; });
  const auto after = [&](std::chrono::nanoseconds time) {
    clock_.advance(time);
    test::catch_up(*loop_);
    return ticks.load();
  };
  EXPECT_EQ(after(1h), 0) << "not before it is set";
  timer->set(5ms);
  EXPECT_EQ(after(4ms), 0);
  EXPECT_EQ(after(1ms), 1);
  EXPECT_EQ(after(4ms), 1);
  EXPECT_EQ(after(1ms), 2);
  EXPECT_EQ(after(1s), 3) << "what was missed is called for once";
  timer->set(0s);
  EXPECT_EQ(after(1h), 3);
}

TEST_F(EventLoopTest, TheSystemsClockTicks) {
  const auto loop = *EventLoop::create("real");
  std::atomic<int> ticks = 0;
  const auto timer = *loop->timer([&] { ++ticks; });
  const auto start = Clock::system().now();
  timer->set(2ms);
  ASSERT_TRUE(eventually([&] { return ticks >= 3; }));
  EXPECT_GE(Clock::system().now() - start, 6ms);
}

TEST_F(EventLoopTest, ATimerTakesLongAndNegativeIntervals) {
  const auto loop = *EventLoop::create("real");
  std::atomic<int> ticks = 0;
  const auto timer = *loop->timer([&] { ++ticks; });
  timer->set(1ms);
  timer->set(3600s + 1ms);
  timer->set(-5s);
  test::catch_up(*loop);
  EXPECT_LE(ticks, 1);
}

TEST_F(EventLoopTest, ATimerThatGoesAwayDoesNotTickAnyMore) {
  for (int round = 0; round < 50; ++round) {
    auto ticks = std::make_unique<std::atomic<int>>(0);
    auto timer = *loop_->timer([ticks = ticks.get()] { ++*ticks; });
    timer->set(50us);
    clock_.advance(300us);
    timer.reset();
    ticks.reset();
  }
}

TEST_F(EventLoopTest, AfterStopNothingIsCalledAndUnwatchReturns) {
  std::atomic<int> calls = 0;
  const UniqueFd event = *loop_->watch_event([&] { ++calls; });
  loop_->stop();
  loop_->stop();
  signal(event);
  EXPECT_EQ(calls, 0);  // its thread has ended
  loop_->unwatch(event.get());
}

TEST_F(EventLoopTest, ACallbackMayStopTheLoop) {
  std::atomic<bool> called = false;
  const UniqueFd event = *loop_->watch_event([&] {
    loop_->stop();
    called = true;
  });
  signal(event);
  EXPECT_TRUE(eventually([&] { return called.load(); }));
  loop_->unwatch(event.get());
  loop_.reset();
}

}  // namespace
}  // namespace balloon::vmm
