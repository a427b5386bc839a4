// SPDX-License-Identifier: Apache-2.0
// Each effect of the plant on one guest, by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/bytes.h"
#include "policy/sim/guest_plant.h"
#include "policy/sim/stats_channel.h"

namespace balloon::policy::sim {
namespace {

using testing::DoubleNear;

constexpr double kMib = 1 << 20;

/// A guest of 1 GiB with no effects but those that a test switches on.
class GuestEffectsTest : public testing::Test {
 protected:
  GuestEffectsTest() {
    spec.memory = kGiB;
    spec.swap.size = Bytes{0};
    spec.free_page_reporting = false;
    spec.command_latency = Time{};
    spec.effects = GuestEffects::off();
    wants.kernel = 64 * kMib;
    wants.anon = 200 * kMib;
  }

  void start() {
    now = Time{};
    guest.emplace(spec);
    guest->start(wants);
  }
  void play(double seconds, const HostGrant& grant = {}) {
    for (const auto end = now + std::chrono::milliseconds(static_cast<int>(seconds * 1000)); now < end;
         now += kStep) {
      guest->step(now, wants, grant);
      const GuestMemory& memory = guest->memory();
      ASSERT_THAT(memory.size() + memory.balloon, DoubleNear(static_cast<double>(spec.memory), 1.0));
      for (const double part : {memory.anon, memory.hot, memory.cold, memory.arc, memory.zram,
                                memory.free_backed, memory.free_unbacked, memory.swapped})
        ASSERT_GE(part, -1.0);
    }
  }
  void resize(double mib) { guest->command(static_cast<Bytes>(mib * kMib), now); }
  const GuestCounters& counters() const { return guest->counters(); }

  GuestSpec spec;
  Wants wants;
  std::optional<GuestPlant> guest;
  Time now{};
};

TEST_F(GuestEffectsTest, OnlyTheMappedPartOfItsFilesRaisesMajorFaults) {
  wants.hot = 600 * kMib;
  double all_mapped = 0;
  for (const double mapped : {1.0, 0.1, 0.0}) {
    spec.effects.mapped = mapped;
    start();
    resize(500);
    play(30);
    EXPECT_GT(counters().refaulted, 100 * kMib) << "it reads its files again and again, however it does";
    if (mapped == 1.0) all_mapped = counters().major_faults;
    EXPECT_NEAR(counters().major_faults, mapped * all_mapped, 1e-6 * all_mapped) << mapped;
  }
  EXPECT_GT(all_mapped, 0);
}

TEST_F(GuestEffectsTest, ItsDisksServeWhateverItDoesNotHave) {
  wants.hot = 300 * kMib;
  wants.cold = 100 * kMib;
  spec.swap = {kGiB, std::chrono::microseconds(100), 200 * kMib};
  start();
  play(10);
  EXPECT_NEAR(counters().disk_read, 100 * kMib, kMib) << "the cold files; the hot ones were there";
  const double before = counters().disk_read;
  resize(300);
  play(20);
  EXPECT_NEAR(counters().disk_read - before, counters().refaulted + counters().swap_in, kMib);
  EXPECT_GT(counters().refaulted, 10 * kMib);
}

TEST_F(GuestEffectsTest, ColdFilesThatWereEvictedCostSomethingWhenTheyAreAskedForAgain) {
  wants.cold = 500 * kMib;
  spec.effects.reread = std::chrono::seconds(100);
  start();
  play(20);
  ASSERT_THAT(guest->memory().cold, DoubleNear(500 * kMib, kMib));
  EXPECT_EQ(counters().charged.files, 0) << "whoever reads a file for the first time has to wait anyway";
  resize(512);
  play(1);
  const double missing = 500 * kMib - guest->memory().cold;
  ASSERT_GT(missing, 200 * kMib);
  const GuestCounters before = counters();
  play(10);
  EXPECT_NEAR(counters().reread - before.reread, missing / 10, 0.05 * missing) << "each page once in 100 s";
  EXPECT_NEAR(counters().charged.files - before.charged.files,
              (counters().reread - before.reread) / kDiskBandwidth, 0.05)
      << "at the speed of its disk";
}

TEST_F(GuestEffectsTest, ColdFilesThatNobodyAsksForAgainCostNothing) {
  wants.cold = 500 * kMib;
  start();
  play(20);
  resize(512);
  play(60);
  EXPECT_EQ(counters().reread, 0);
  EXPECT_EQ(counters().charged.files, 0);
}

TEST_F(GuestEffectsTest, ColdFilesComeBackAsTheyAreAskedForWhenThereIsRoomAgain) {
  wants.cold = 500 * kMib;
  spec.effects.reread = std::chrono::seconds(100);
  start();
  play(20);
  resize(512);
  play(1);
  const double missing = 500 * kMib - guest->memory().cold;
  resize(1024);
  play(100);
  EXPECT_NEAR(500 * kMib - guest->memory().cold, missing / std::exp(1), 0.05 * missing);
}

TEST_F(GuestEffectsTest, ADiskThatTurnsMakesReReadingDear) {
  wants.cold = 500 * kMib;
  spec.effects.reread = std::chrono::seconds(100);
  double flash = 0;
  for (const Disk& disk : {Disk::nvme(), Disk::hdd()}) {
    spec.disk = disk;
    start();
    play(20);
    resize(512);
    play(60);
    if (flash == 0) flash = counters().charged.files;
  }
  EXPECT_GT(counters().charged.files, 20 * flash);
}

TEST_F(GuestEffectsTest, AStreamPushesOutColdFilesAndRaisesNoFaults) {
  wants.cold = 300 * kMib;
  start();
  play(10);
  wants.stream = 100 * kMib;
  play(20);
  EXPECT_GT(guest->memory().cold, 600 * kMib) << "it fills all that is free";
  EXPECT_NEAR(counters().disk_read, 300 * kMib + 2000 * kMib, 20 * kMib);
  EXPECT_EQ(counters().major_faults + counters().refaulted + counters().charged.files, 0);
}

TEST_F(GuestEffectsTest, AnLruThatErrsTakesHotPagesWithTheColdOnes) {
  wants.hot = 300 * kMib;
  for (const double error : {0.0, 0.2}) {
    wants.stream = 0;
    spec.effects.lru_error = error;
    start();
    wants.stream = 20 * kMib;
    play(30);  // fills what is free
    const GuestCounters before = counters();
    play(60);
    const double hot_part = 300.0 / (300 + 450);  // of what is cached
    const double expected = error * hot_part * 60 * 20 * kMib;
    EXPECT_NEAR(counters().refaulted - before.refaulted, expected, 0.25 * expected) << error;
  }
}

/// Standard deviation of what `value` gives, over 2,000 samples.
double deviation(const std::function<double()>& value) {
  double sum = 0;
  double squares = 0;
  constexpr int kSamples = 2000;
  for (int i = 0; i < kSamples; ++i) {
    const double each = value();
    sum += each;
    squares += each * each;
  }
  const double mean = sum / kSamples;
  return std::sqrt(squares / kSamples - mean * mean);
}

TEST_F(GuestEffectsTest, StatisticsTrembleMoreUnderLoadThanAtRest) {
  spec.effects.noise_rest = 0.001;
  spec.effects.noise_load = 0.005;
  const auto measure = [&](double busy) {
    wants.busy = busy;
    start();
    StatsSpec stats;
    stats.period = std::chrono::seconds(1);
    stats.age = Time{};
    StatsChannel channel(stats, Time{}, 1);
    return deviation([&] {
      play(1);
      channel.step(now, *guest, false, Lie::none);
      EXPECT_NEAR(
          static_cast<double>(*channel.newest()->available) - static_cast<double>(*channel.newest()->free),
          guest->available() - guest->memory().free(), kPageBytes)
          << "what comes and goes is free or not";
      return static_cast<double>(*channel.newest()->available);
    });
  };
  EXPECT_NEAR(measure(0), 0.001 * 1024 * kMib, 0.3 * 0.001 * 1024 * kMib) << "it drifts";
  EXPECT_NEAR(measure(1), 0.005 * 1024 * kMib, 0.15 * 0.005 * 1024 * kMib);
}

TEST_F(GuestEffectsTest, NoSampleHasMoreThanTheGuest) {
  spec.effects.noise_rest = 0.5;
  start();
  StatsSpec stats;
  stats.period = kStep;
  stats.age = Time{};
  StatsChannel channel(stats, Time{}, 1);
  for (int i = 0; i < 500; ++i) {
    play(0.1);
    channel.step(now, *guest, false, Lie::none);
    ASSERT_LE(*channel.newest()->available, kGiB);
    ASSERT_LE(*channel.newest()->free, kGiB);
  }
}

TEST_F(GuestEffectsTest, WhatItsBalloonGivesBackIsMappedBySmallPagesWhichCostTime) {
  spec.effects.split = 1;
  spec.effects.split_cost = 0.03;
  start();
  for (int round = 0; round < 3; ++round) {
    resize(900);
    play(2);
    EXPECT_EQ(guest->split(), 0) << "the balloon takes the same pages again";
    resize(1024);
    play(2);
    EXPECT_NEAR(guest->split(), 124 * kMib, kMib);
  }
  const double before = counters().charged.split;
  play(10);
  EXPECT_NEAR(counters().charged.split - before, 10 * 0.03 * 124 / 1024, 1e-3);
  play(10, {.collapsed = 10 * kMib});
  EXPECT_EQ(guest->split(), 0) << "khugepaged mends it in time";
}

TEST_F(GuestEffectsTest, AVmmThatJoinsHugePagesCostsItsGuestNothing) {
  start();
  resize(512);
  play(5);
  resize(1024);
  play(10);
  EXPECT_EQ(guest->split(), 0);
  EXPECT_EQ(counters().charged.split, 0);
}

TEST_F(GuestEffectsTest, PinnedMemoryIsNotSplit) {
  spec.effects.split = 1;
  spec.pinned = true;
  start();
  resize(512);
  play(5);
  resize(1024);
  play(5);
  EXPECT_EQ(guest->split(), 0);
}

TEST_F(GuestEffectsTest, SwapOfItsOwnInMemoryTakesUpAPartOfWhatItHolds) {
  spec.swap = SwapDevice::zram(kGiB);
  wants.anon = 600 * kMib;
  start();
  resize(500);
  play(20);
  const GuestMemory& memory = guest->memory();
  ASSERT_GT(memory.swapped, 100 * kMib);
  EXPECT_NEAR(memory.zram, kZramMemoryRatio * memory.swapped, 1);
  EXPECT_EQ(counters().disk_read, 0) << "no disk serves it";
  EXPECT_GT(counters().charged.swap, 0) << "but its CPU compresses";
  wants.anon = 100 * kMib;
  play(10);
  EXPECT_LT(memory.zram, 0.3 * 500 * kMib) << "what was freed is freed there too";
}

TEST_F(GuestEffectsTest, AnArcCountsAsUsedAndGivesWayToProgramsAndBalloonBitByBit) {
  wants.arc = 500 * kMib;
  spec.cold_rate = 100 * kMib;
  start();
  play(10);
  ASSERT_NEAR(guest->memory().arc, 500 * kMib, kMib);
  EXPECT_NEAR(guest->available(), guest->memory().free() - low_watermark(static_cast<double>(kGiB)), 1)
      << "MemAvailable knows nothing of it";
  resize(512);
  play(0.4);
  EXPECT_GT(guest->memory().size(), 520 * kMib) << "the balloon has to wait for it";
  play(60);
  EXPECT_NEAR(guest->memory().size(), 512 * kMib, kMib);
  EXPECT_GE(guest->memory().arc, 64 * kMib - 1) << "it keeps its minimum";
}

}  // namespace
}  // namespace balloon::policy::sim
