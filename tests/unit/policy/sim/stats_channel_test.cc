// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/stats_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class StatsChannelTest : public testing::Test {
 protected:
  StatsChannelTest() {
    guest_spec.memory = kGiB;
    guest_spec.boot = Time{};
    wants = {.anon = static_cast<double>(200 * kMiB),
             .hot = 0,
             .cold = 0,
             .kernel = static_cast<double>(64 * kMiB),
             .mergeable = 0};
    spec.age = Time{};
  }

  void start(Time offset = Time{}) {
    guest.emplace(guest_spec);
    guest->start(wants);
    channel.emplace(spec, offset, 1);
  }

  void play(Time time, bool silent = false, Lie lie = Lie::none) {
    for (const Time end = now + time; now < end; now += kStep) {
      guest->step(now, wants, {});
      channel->step(now, *guest, silent, lie);
    }
  }

  const GuestStats& newest() const { return *channel->newest(); }

  GuestSpec guest_spec;
  StatsSpec spec;
  Wants wants;
  std::optional<GuestPlant> guest;
  std::optional<StatsChannel> channel;
  Time now{};
};

TEST_F(StatsChannelTest, SamplesOncePerPeriodFromItsOffset) {
  spec.period = seconds(2);
  start(milliseconds(300));
  play(milliseconds(300));
  EXPECT_FALSE(channel->newest());
  play(milliseconds(200));
  ASSERT_TRUE(channel->newest());
  EXPECT_EQ(newest().sampled_at, milliseconds(300));
  play(seconds(2));
  EXPECT_EQ(newest().sampled_at, milliseconds(2300));
}

TEST_F(StatsChannelTest, ShowsWhatTheGuestHas) {
  start();
  play(seconds(1));
  EXPECT_EQ(newest().actual, kGiB);
  EXPECT_EQ(newest().available, static_cast<Bytes>(guest->available()) / 4096 * 4096);
  EXPECT_TRUE(newest().alloc_stalls);
}

TEST_F(StatsChannelTest, BalloonCountsAsUsedOnlyWithDeflateOnOom) {
  for (const bool negotiated : {true, false}) {
    guest_spec.deflate_on_oom = negotiated;
    now = Time{};
    start();
    guest->command(512 * kMiB, now);
    play(seconds(3));
    EXPECT_EQ(newest().total, negotiated ? kGiB : 512 * kMiB) << "negotiated: " << negotiated;
  }
}

TEST_F(StatsChannelTest, ArriveAsLateAsTheyAreOld) {
  spec.age = milliseconds(500);
  start();
  play(milliseconds(500));
  EXPECT_FALSE(channel->newest());
  play(milliseconds(100));
  ASSERT_TRUE(channel->newest());
  EXPECT_EQ(newest().sampled_at, Time{});
}

TEST_F(StatsChannelTest, JitterNeverPutsAnOldSampleOverANewOne) {
  spec.period = milliseconds(200);
  spec.jitter = seconds(1);
  start();
  Time last{};
  for (int i = 0; i < 300; ++i) {
    play(kStep);
    if (!channel->newest()) continue;
    EXPECT_GE(newest().sampled_at, last);
    last = newest().sampled_at;
  }
}

TEST_F(StatsChannelTest, LossLeavesGaps) {
  spec.loss = 0.5;
  start();
  int fresh = 0;
  Time last{-1};
  for (int second = 0; second < 200; ++second) {
    play(seconds(1));
    if (channel->newest() && newest().sampled_at != last) ++fresh;
    if (channel->newest()) last = newest().sampled_at;
  }
  EXPECT_GT(fresh, 70);
  EXPECT_LT(fresh, 130);
}

TEST_F(StatsChannelTest, OldKernelsLackTags) {
  spec.pressure = false;
  spec.swap = false;
  spec.caches = false;
  start();
  play(seconds(1));
  EXPECT_TRUE(newest().available);
  EXPECT_FALSE(newest().free || newest().swap_in || newest().major_faults || newest().oom_kills);
}

TEST_F(StatsChannelTest, SilentGuestsAndThoseWithoutADriverSendNothing) {
  start();
  play(seconds(3), true);
  EXPECT_FALSE(channel->newest());
  guest_spec.driver = Driver::absent;
  start();
  play(seconds(3));
  EXPECT_FALSE(channel->newest());
}

TEST_F(StatsChannelTest, EachLieIsTold) {
  start();
  play(seconds(1), false, Lie::available_zero);
  EXPECT_EQ(newest().available, Bytes{0});
  play(seconds(1), false, Lie::available_unknown);
  EXPECT_EQ(newest().available, Bytes::max());
  play(seconds(1), false, Lie::available_above_total);
  EXPECT_GT(*newest().available, *newest().total);
  play(seconds(1), false, Lie::counters_back);
  const Bytes before = *newest().swap_in;
  play(seconds(1), false, Lie::counters_back);
  EXPECT_LT(*newest().swap_in, before);
  play(seconds(1), false, Lie::frozen);
  const auto frozen = newest().available;
  const Time at = newest().sampled_at;
  wants.anon = static_cast<double>(500 * kMiB);
  play(seconds(3), false, Lie::frozen);
  EXPECT_EQ(newest().available, frozen);
  EXPECT_GT(newest().sampled_at, at);
}

TEST_F(StatsChannelTest, ForgetsWhatItDeliveredWhenTheDaemonIsNew) {
  start();
  play(seconds(1));
  ASSERT_TRUE(channel->newest());
  channel->reset(now);
  EXPECT_FALSE(channel->newest());
}

}  // namespace
}  // namespace balloon::policy::sim
