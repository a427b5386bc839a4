// SPDX-License-Identifier: Apache-2.0
// Each sign of want just below its threshold, and just above. A sample every two seconds: rates are a
// second's.
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/pages.h"
#include "policy/pressure.h"

namespace balloon::policy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A guest of 1 GiB that has room; next to none of it is free.
class SignalsTest : public testing::Test {
 protected:
  SignalsTest() {
    guest_.memory = 2 * kGiB;
    guest_.actual = guest_.target = kGiB;
    guest_.stats = GuestStats{};
    GuestStats& stats = *guest_.stats;
    stats.actual = kGiB;
    stats.available = 300 * kMiB;
    stats.free = 8 * kMiB;
    stats.swap_in = stats.swap_out = stats.disk_read = Bytes{0};
    stats.major_faults = stats.oom_kills = stats.alloc_stalls = stats.direct_scans = 0;
    guest_.on_host.swap_in = Bytes{0};
    guest_.on_host.refaults = 0;
    read();
  }
  Reading read() {
    now_ += seconds(2);
    guest_.stats->sampled_at = now_;
    return again();
  }
  /// On the same sample.
  Reading again() {
    return gauge_.read(guest_, judge(guest_, now_, Bytes{0}, {}), Source::statistics, now_, {});
  }
  GuestStats& stats() { return *guest_.stats; }

  GuestSnapshot guest_;
  PressureGauge gauge_;
  Time now_ = seconds(100);
};

TEST_F(SignalsTest, AvailableBelowATwentiethIsPressure) {
  stats().available = 52 * kMiB;
  EXPECT_EQ(read().level, Pressure::none);
  stats().available = 51 * kMiB;
  EXPECT_EQ(read().signal, Signal::low_available);
}

TEST_F(SignalsTest, AvailableBelowAFiftiethIsCritical) {
  stats().available = 21 * kMiB;
  EXPECT_EQ(read().level, Pressure::pressed);
  stats().available = 20 * kMiB;
  EXPECT_EQ(read().level, Pressure::critical);
}

TEST_F(SignalsTest, AMiBOfSwapReadBackASecondIsPressure) {
  *stats().swap_in += 2 * kMiB;
  EXPECT_EQ(read().level, Pressure::none);
  *stats().swap_in += 2 * kMiB + kPageSize;
  EXPECT_EQ(read().signal, Signal::swap_in);
  EXPECT_EQ(again().signal, Signal::swap_in) << "until the next sample";
  EXPECT_EQ(again().swapped_in, 0) << "though it is counted once";
}

TEST_F(SignalsTest, TwentyFaultsOnFilesASecondArePressure) {
  *stats().major_faults += 40;
  EXPECT_EQ(read().level, Pressure::none);
  *stats().major_faults += 41;
  const Reading reading = read();
  EXPECT_EQ(reading.signal, Signal::major_faults);
  EXPECT_TRUE(reading.lacks_cache);
  EXPECT_EQ(reading.cache_missed, 41 * 128.0 * 1024);
}

TEST_F(SignalsTest, FaultsThatAreOfSwapAreNotOfFiles) {
  *stats().major_faults += 60;
  *stats().swap_in += 25 * kPageSize;  // a trickle
  EXPECT_EQ(read().level, Pressure::none);
  *stats().major_faults += 70;
  *stats().swap_in += 25 * kPageSize;
  EXPECT_EQ(read().signal, Signal::major_faults);
}

TEST_F(SignalsTest, AGuestThatReadsItsSwapBackSlowlyFaultsForThat) {
  *stats().major_faults += 1000;
  *stats().swap_in += 128 * kKiB;  // 64 KiB a second
  EXPECT_EQ(read().level, Pressure::none);
  *stats().major_faults += 1000;
  *stats().swap_in += 127 * kKiB;
  EXPECT_EQ(read().signal, Signal::major_faults);
}

TEST_F(SignalsTest, FaultsCountWhereLessThanATenthIsFree) {
  *stats().major_faults += 100;
  stats().free = 119 * kMiB;  // of 1 GiB, and a deadband
  EXPECT_EQ(read().level, Pressure::none);
  *stats().major_faults += 100;
  stats().free = 118 * kMiB;
  EXPECT_EQ(read().signal, Signal::major_faults);
}

TEST_F(SignalsTest, StalledAllocationsArePressureWhereTheyScan) {
  *stats().alloc_stalls += 20;
  *stats().direct_scans += 600;
  EXPECT_EQ(read().level, Pressure::none) << "ten a second";
  *stats().alloc_stalls += 22;
  *stats().direct_scans += 512;
  EXPECT_EQ(read().level, Pressure::none) << "256 pages a second";
  *stats().alloc_stalls += 22;
  *stats().direct_scans += 514;
  EXPECT_EQ(read().signal, Signal::alloc_stalls);
}

TEST_F(SignalsTest, StallsWhileItsBalloonInflatesAreTheBalloons) {
  stats().actual = guest_.actual = guest_.target = 1000 * kMiB;  // since the sample before
  *stats().alloc_stalls += 100;
  *stats().direct_scans += 10'000;
  EXPECT_EQ(read().level, Pressure::none);
  *stats().alloc_stalls += 100;
  *stats().direct_scans += 10'000;
  EXPECT_EQ(read().signal, Signal::alloc_stalls) << "it has come to rest";
}

TEST_F(SignalsTest, TwoAndAHalfMiBOfFilesASecondAreAWantForCache) {
  *stats().disk_read += 5 * kMiB;
  EXPECT_EQ(read().wanted_cache, Bytes{0});
  *stats().disk_read += 6 * kMiB;
  EXPECT_EQ(read().wanted_cache, 6 * kMiB);
  EXPECT_EQ(again().wanted_cache, 6 * kMiB) << "until the next sample";
  *stats().disk_read += 6 * kMiB;
  *stats().swap_in += 2 * kMiB;
  EXPECT_LT(read().wanted_cache, 6 * kMiB) << "what comes from its swap is no file";
}

TEST_F(SignalsTest, AKillIsCriticalForTenSeconds) {
  *stats().oom_kills += 1;
  EXPECT_TRUE(read().killed);
  EXPECT_FALSE(again().killed) << "it is counted once";
  for (int i = 0; i < 4; ++i) EXPECT_EQ(read().signal, Signal::oom_kill);
  EXPECT_EQ(read().level, Pressure::none);
}

TEST_F(SignalsTest, AMiBOfItASecondThatTheHostReadsBackIsPressure) {
  *guest_.on_host.swap_in += 2 * kMiB;
  EXPECT_EQ(read().level, Pressure::none);
  *guest_.on_host.swap_in += 2 * kMiB + kPageSize;
  EXPECT_EQ(read().signal, Signal::host_swap_in);
}

TEST_F(SignalsTest, FourMiBOfItASecondThatTheHostReadsAgainArePressure) {
  *guest_.on_host.refaults += 2048;
  EXPECT_EQ(read().level, Pressure::none);
  *guest_.on_host.refaults += 2049;
  EXPECT_EQ(read().signal, Signal::host_refaults);
}

TEST_F(SignalsTest, AProcessThatWaitsATenthOfTheTimeIsPressed) {
  guest_.on_host.pressure_some = 0.10;
  EXPECT_EQ(read().level, Pressure::none);
  guest_.on_host.pressure_some = 0.11;
  EXPECT_EQ(read().signal, Signal::host_pressure);
  EXPECT_EQ(read().level, Pressure::pressed);
}

TEST_F(SignalsTest, WhatTheGuestSaysComesBeforeWhatTheHostSees) {
  stats().available = 10 * kMiB;
  guest_.on_host.pressure_some = 0.5;
  EXPECT_EQ(read().signal, Signal::low_available);
}

TEST_F(SignalsTest, AGuestIsQuietSinceItsLastSignOfWant) {
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(2)) << "since the first sample";
  *stats().swap_out += kPageSize;
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(0));
  EXPECT_EQ(gauge_.quiet_for(now_ + milliseconds(700)), milliseconds(700));
  *stats().alloc_stalls += 1;
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(0));
  guest_.target = 900 * kMiB;
  *stats().alloc_stalls += 1;
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(2)) << "its balloon's reclaim is no want";
  *stats().swap_out += 50 * kMiB;
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(4)) << "nor is what that pushes out";
  *stats().swap_in += 128 * kKiB;
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(6)) << "nor a page that comes back now and then";
  *stats().swap_in += 256 * kKiB;
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(0)) << "more of them is";
  *stats().major_faults += 1000;
  read();
  EXPECT_EQ(gauge_.quiet_for(now_), seconds(0));
}

}  // namespace
}  // namespace balloon::policy
