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
  void SetUp() override {
    outbox_.open();
    reader_ = std::thread([this] {
      while (const auto request = outbox_.take()) told_ += request->has_balloon() ? 1 : 0;
    });
  }
  void TearDown() override {
    outbox_.close();
    reader_.join();
  }

  void balloon_at(std::uint64_t actual, std::uint64_t target, bool ready = true) {
    v1::BalloonUpdate balloon;
    balloon.set_actual_bytes(actual);
    balloon.set_target_bytes(target);
    balloon.set_driver_ready(ready);
    outbox_.put(balloon);
  }
  /// How many states the daemon was told within that time.
  int told_after(std::chrono::milliseconds time) const {
    std::this_thread::sleep_for(time);
    return told_;
  }

  Outbox outbox_;
  std::atomic<int> told_ = 0;
  std::thread reader_;
};

TEST_F(OutboxTest, ABalloonThatGivesCrumbsIsToldEachSecond) {
  balloon_at(1000 * kMiB, 500 * kMiB);
  for (std::uint64_t step = 1; step <= 6; ++step) {
    std::this_thread::sleep_for(100ms);
    balloon_at((1000 - step) * kMiB, 500 * kMiB);
  }
  EXPECT_EQ(told_, 1);
  EXPECT_EQ(told_after(Outbox::kBalloonCrumbPause), 2);
}

TEST_F(OutboxTest, ABalloonThatMovesInStridesIsToldAsOftenAsTheDaemonDecides) {
  for (std::uint64_t step = 0; step < 5; ++step) {
    balloon_at(1000 * kMiB - step * Outbox::kBalloonStep, 500 * kMiB);
    std::this_thread::sleep_for(Outbox::kBalloonPause + 50ms);
  }
  EXPECT_GE(told_, 4);
}

TEST_F(OutboxTest, ANewTargetOrADriverThatGoesDoesNotWaitForASecond) {
  balloon_at(1000 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(50ms), 1);
  balloon_at(1000 * kMiB, 600 * kMiB);
  EXPECT_EQ(told_after(Outbox::kBalloonPause + 150ms), 2);
  balloon_at(1000 * kMiB, 600 * kMiB, false);
  EXPECT_EQ(told_after(Outbox::kBalloonPause + 150ms), 3);
}

TEST_F(OutboxTest, ABalloonAtItsTargetIsToldAtOnceThoughItMovedByACrumb) {
  balloon_at(501 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(50ms), 1);
  balloon_at(500 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(80ms), 2);
}

TEST_F(OutboxTest, OnANewStreamTheStateIsToldAtOnce) {
  balloon_at(1000 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(50ms), 1);
  outbox_.open();
  balloon_at(999 * kMiB, 500 * kMiB);
  EXPECT_EQ(told_after(80ms), 2);
}

}  // namespace
}  // namespace balloon::vmm
