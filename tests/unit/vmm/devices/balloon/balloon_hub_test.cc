// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/balloon_hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace balloon::vmm::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr Bytes kMemory = 64 * kMiB;

/// The balloon of one machine.
class Device final : public BalloonControl {
 public:
  explicit Device(Bytes target = kMemory)
      : state_{.actual = kMemory, .target = target, .driver_ready = true} {}
  BalloonState state() const override { return state_; }
  Result<void> set_target(Bytes target) override {
    if (target > kMemory) return fail("above the boot memory");
    state_.target = target;
    if (on_state) on_state(state_);
    return {};
  }
  void set_stats_interval(std::chrono::nanoseconds wanted) override { interval = wanted; }
  void observe(std::function<void(const BalloonStats&)> stats,
               std::function<void(const BalloonState&)> state) override {
    on_stats = std::move(stats);
    on_state = std::move(state);
  }
  void request_stats(std::function<void(Result<BalloonStats>)> reply) override { reply(BalloonStats{}); }
  void drop_free_pages(std::function<void(Result<Bytes>)> reply) override { reply(Bytes{1}); }
  BalloonCounters counters() const override { return {.inflated = Bytes{7}}; }

  std::chrono::nanoseconds interval{};
  std::function<void(const BalloonStats&)> on_stats;
  std::function<void(const BalloonState&)> on_state;

 private:
  BalloonState state_;
};

class BalloonHubTest : public testing::Test {
 protected:
  BalloonHub hub{kMemory};
  BalloonControl& link = hub.of(BalloonHub::User::link);
  BalloonControl& monitor = hub.of(BalloonHub::User::monitor);
};

TEST_F(BalloonHubTest, TheFirstMachinesTargetIsKeptAndEachNextHasTheOneThatWasSetLast) {
  Device first(48 * kMiB), second, third;
  hub.attach(first);
  EXPECT_EQ(link.state().target, 48 * kMiB) << "of the options, or of a snapshot";
  hub.detach();
  hub.attach(second);
  EXPECT_EQ(second.state().target, 48 * kMiB);
  ASSERT_TRUE(monitor.set_target(40 * kMiB));
  ASSERT_TRUE(link.set_target(32 * kMiB));
  hub.detach();
  hub.attach(third);
  EXPECT_EQ(third.state().target, 32 * kMiB);
}

TEST_F(BalloonHubTest, ATargetThatIsSetBetweenTwoMachinesIsTheNextOnes) {
  Device first, second;
  hub.attach(first);
  hub.detach();
  ASSERT_TRUE(link.set_target(32 * kMiB + Bytes{1}));
  EXPECT_EQ(monitor.state().target, 32 * kMiB) << "in whole pages";
  hub.attach(second);
  EXPECT_EQ(second.state().target, 32 * kMiB);
}

TEST_F(BalloonHubTest, ATargetThatIsRefusedChangesNothing) {
  Device first, second;
  hub.attach(first);
  ASSERT_TRUE(link.set_target(32 * kMiB));
  EXPECT_FALSE(link.set_target(kMemory + Bytes{1}));
  hub.detach();
  const auto refused = link.set_target(kMemory + Bytes{1});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("above the guest's boot memory of 64 MiB"));
  hub.attach(second);
  EXPECT_EQ(second.state().target, 32 * kMiB);
}

TEST_F(BalloonHubTest, ObserversSeeTheDriverGoAndComeAndStayThroughReboots) {
  std::vector<std::string> seen;
  int samples = 0;
  link.observe([&](const BalloonStats&) { ++samples; },
               [&](const BalloonState& state) { seen.emplace_back(state.driver_ready ? "ready" : "gone"); });
  Device first, second;
  hub.attach(first);
  hub.detach();
  EXPECT_FALSE(link.state().driver_ready);
  hub.attach(second);
  EXPECT_EQ(seen, (std::vector<std::string>{"ready", "gone", "ready"}));
  second.on_stats({});
  EXPECT_EQ(samples, 1);
  EXPECT_FALSE(first.on_stats) << "nothing of the one before is heard any more";
}

TEST_F(BalloonHubTest, TheMostFrequentWishForStatisticsCountsInEachMachine) {
  Device first, second;
  link.set_stats_interval(2s);  // before there is any
  hub.attach(first);
  EXPECT_EQ(first.interval, 2s);
  monitor.set_stats_interval(1s);
  EXPECT_EQ(first.interval, 1s);
  hub.detach();
  hub.attach(second);
  EXPECT_EQ(second.interval, 1s);
  monitor.set_stats_interval({});
  EXPECT_EQ(second.interval, 2s);
}

TEST_F(BalloonHubTest, WhatOnlyAGuestCanAnswerIsRefusedBetweenTwoMachines) {
  Device device;
  std::string why;
  const auto ask = [&] {
    why.clear();
    link.request_stats(
        [&](const Result<BalloonStats>& stats) { why += stats ? "stats" : stats.error().message; });
    link.drop_free_pages([&](const Result<Bytes>& freed) { why += freed ? "freed" : freed.error().message; });
    return why;
  };
  EXPECT_EQ(ask(), "the guest is rebootingthe guest is rebooting");
  EXPECT_EQ(link.counters(), BalloonCounters{});
  hub.attach(device);
  EXPECT_EQ(ask(), "statsfreed");
  EXPECT_EQ(link.counters().inflated, Bytes{7});
}

}  // namespace
}  // namespace balloon::vmm::test
