// SPDX-License-Identifier: Apache-2.0
// What is told of a balloon that moves, and how often.
#include "vmm/link/outbox.h"

#include <gtest/gtest.h>

#include <thread>

namespace balloon::vmm {
namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t kMiB = 1 << 20;

class OutboxTest : public ::testing::Test {
 protected:
  void SetUp() override { outbox_.open(); }

  void balloon_at(std::uint64_t actual, std::uint64_t target, bool ready = true) {
    v1::BalloonUpdate balloon;
    balloon.set_actual_bytes(actual);
    balloon.set_target_bytes(target);
    balloon.set_driver_ready(ready);
    outbox_.put(balloon);
  }
  /// How many states the daemon is told once so much time has passed.
  int told_after(std::chrono::milliseconds time) {
    now_ += time;
    int told = 0;
    while (const auto request = outbox_.take_at(now_)) told += request->has_balloon() ? 1 : 0;
    return told;
  }

  Outbox outbox_;
  std::chrono::steady_clock::time_point now_{1h};
};

TEST_F(OutboxTest, ABalloonThatGivesCrumbsIsToldEachSecond) {
  balloon_at(1000 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(0ms), 1);
  for (std::uint64_t step = 1; step <= 6; ++step) {
    balloon_at((1000 - step) * kMiB, 500 * kMiB);
    EXPECT_EQ(told_after(100ms), 0);
  }
  EXPECT_EQ(told_after(Outbox::kBalloonCrumbPause - 601ms), 0);
  EXPECT_EQ(told_after(1ms), 1);
}

TEST_F(OutboxTest, ABalloonThatMovesInStridesIsToldAsOftenAsTheDaemonDecides) {
  balloon_at(1000 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(0ms), 1);
  for (std::uint64_t step = 1; step < 5; ++step) {
    balloon_at(1000 * kMiB - step * Outbox::kBalloonStep, 500 * kMiB);
    EXPECT_EQ(told_after(Outbox::kBalloonPause - 1ms), 0);
    EXPECT_EQ(told_after(1ms), 1);
  }
}

TEST_F(OutboxTest, ANewTargetOrADriverThatGoesDoesNotWaitForASecond) {
  balloon_at(1000 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(0ms), 1);
  balloon_at(1000 * kMiB, 600 * kMiB);
  EXPECT_EQ(told_after(Outbox::kBalloonPause), 1);
  balloon_at(1000 * kMiB, 600 * kMiB, false);
  EXPECT_EQ(told_after(Outbox::kBalloonPause), 1);
}

TEST_F(OutboxTest, ABalloonAtItsTargetIsToldAtOnceThoughItMovedByACrumb) {
  balloon_at(501 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(0ms), 1);
  balloon_at(500 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(1ms), 1);
}

TEST_F(OutboxTest, OnANewStreamTheStateIsToldAtOnce) {
  balloon_at(1000 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(0ms), 1);
  outbox_.open();
  balloon_at(999 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(1ms), 1);
}

TEST_F(OutboxTest, WhoTakesWaitsForAStateThatIsNotDueAndIsWokenByTheEnd) {
  std::atomic<int> told = 0;
  std::jthread reader([&] {
    while (outbox_.take()) ++told;
  });
  balloon_at(1000 * kMiB, 500 * kMiB);
  while (told < 1) std::this_thread::yield();
  balloon_at(1000 * kMiB - Outbox::kBalloonStep, 500 * kMiB);
  while (told < 2) std::this_thread::yield();
  outbox_.close();
  reader.join();
  EXPECT_EQ(told, 2);
}

}  // namespace
}  // namespace balloon::vmm
