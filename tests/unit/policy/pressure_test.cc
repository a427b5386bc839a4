// SPDX-License-Identifier: Apache-2.0
#include "policy/pressure.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

/// A guest that has room; a sample a second, which the test spoils.
class PressureTest : public testing::Test {
 protected:
  PressureTest() {
    guest_.memory = 2 * kGiB;
    guest_.actual = guest_.target = kGiB;
    guest_.stats = GuestStats{};
    guest_.stats->actual = kGiB;
    guest_.stats->available = 300 * kMiB;
    guest_.stats->free = 8 * kMiB;
    guest_.stats->swap_in = guest_.stats->swap_out = Bytes{0};
    guest_.stats->major_faults = 0;
    guest_.stats->oom_kills = guest_.stats->alloc_stalls = guest_.stats->direct_scans = 0;
    read();
  }

  const Reading& read(Source source = Source::statistics) {
    now_ += seconds(1);
    guest_.stats->sampled_at = now_;
    const Judgement judged =
        source == Source::statistics ? judge(guest_, now_, Bytes{0}, {}) : judge_by_host(guest_);
    return gauge_.read(guest_, judged, source, now_, {});
  }

  GuestStats& stats() { return *guest_.stats; }

  GuestSnapshot guest_;
  PressureGauge gauge_;
  Time now_ = seconds(100);
};

TEST_F(PressureTest, IsNoneForAGuestWithRoom) { EXPECT_EQ(read().level, Pressure::none); }

TEST_F(PressureTest, RisesAsWhatIsAvailableRunsOut) {
  stats().available = 40 * kMiB;
  EXPECT_EQ(read().level, Pressure::pressed);
  stats().available = 10 * kMiB;
  EXPECT_EQ(read().level, Pressure::critical);
  EXPECT_EQ(read().signal, Signal::low_available);
}

TEST_F(PressureTest, SeesSwapBeingReadBack) {
  *stats().swap_in += 10 * kMiB;
  const Reading& reading = read();
  EXPECT_EQ(reading.signal, Signal::swap_in);
  EXPECT_EQ(reading.swapped_in, static_cast<double>(10 * kMiB));
}

TEST_F(PressureTest, SwapThatIsReadBackIsNoneWhereMuchIsFree) {
  stats().free = 250 * kMiB;
  *stats().swap_in += 10 * kMiB;
  EXPECT_EQ(read().level, Pressure::none) << "it has room for what comes back";
}

TEST_F(PressureTest, SeesPageCacheThatIsReadAgainOnlyWhereLittleIsFree) {
  *stats().major_faults += 1000;
  EXPECT_EQ(read().signal, Signal::major_faults);
  stats().free = 250 * kMiB;
  *stats().major_faults += 1000;
  EXPECT_EQ(read().level, Pressure::none) << "it reads what it never had";
}

/// A guest whose disks are counted.
class DiskReadTest : public PressureTest {
 protected:
  DiskReadTest() {
    stats().disk_read = Bytes{0};
    read();
  }
  const Reading& read_files(Bytes bytes) {
    *stats().disk_read += bytes;
    return read();
  }
};

TEST_F(DiskReadTest, AGuestThatReadsMuchWithNextToNothingFreeWantsCacheAndIsNotPressed) {
  const Reading reading = read_files(50 * kMiB);
  EXPECT_EQ(reading.wanted_cache, 50 * kMiB);
  EXPECT_EQ(reading.level, Pressure::none) << "it may never have had them";
  EXPECT_LT(read_files(kMiB).wanted_cache, 50 * kMiB) << "too little to be a want";
}

TEST_F(DiskReadTest, HoweverMuchItReadsItWantsNoMoreThanItCouldHave) {
  EXPECT_EQ(read_files(Bytes::max() / 2).wanted_cache, guest_.memory);
  for (int second = 0; second < 30; ++second) read();
  EXPECT_LT(read().wanted_cache, guest_.memory * 3 / 4) << "and forgets it as soon as less";
}

TEST_F(DiskReadTest, WhatItReadIsWantedHalfAsMuchAfterHalfAMinute) {
  read_files(64 * kMiB);
  for (int second = 0; second < 30; ++second) read();
  EXPECT_NEAR(mib(read().wanted_cache), 32, 1);
  read_files(32 * kMiB);
  EXPECT_GT(read().wanted_cache, 56 * kMiB) << "what it reads now comes on top";
}

TEST_F(DiskReadTest, AGuestWithRoomForWhatItReadsWantsNone) {
  stats().free = 200 * kMiB;
  EXPECT_EQ(read_files(50 * kMiB).wanted_cache, Bytes{0});
}

TEST_F(DiskReadTest, WhatComesBackFromItsSwapIsNoFile) {
  *stats().swap_in += 50 * kMiB;
  EXPECT_EQ(read_files(50 * kMiB).wanted_cache, Bytes{0});
}

TEST_F(DiskReadTest, AWantLastsUntilTheNextSample) {
  read_files(50 * kMiB);
  const Judgement judged = judge(guest_, now_, Bytes{0}, {});
  EXPECT_EQ(gauge_.read(guest_, judged, Source::statistics, now_ + seconds(1), {}).wanted_cache, 50 * kMiB);
}

TEST_F(PressureTest, WhereNobodyCountsWhatItReadsACacheAtItsLimitIsAWant) {
  EXPECT_EQ(read().wanted_cache, guest_.memory) << "there is no telling how much";
  EXPECT_EQ(read(Source::host).wanted_cache, Bytes{0});
  stats().free = 250 * kMiB;
  EXPECT_EQ(read().wanted_cache, Bytes{0});
  stats().free.reset();
  EXPECT_EQ(read().wanted_cache, Bytes{0}) << "or who knows whether it is at its limit";
}

TEST_F(PressureTest, ABigGuestIsNotCriticalWithAQuarterOfAGiBAvailable) {
  guest_.memory = guest_.actual = guest_.target = stats().actual = 64 * kGiB;
  stats().available = 300 * kMiB;
  EXPECT_EQ(read().level, Pressure::pressed);
  stats().available = 200 * kMiB;
  EXPECT_EQ(read().level, Pressure::critical);
}

TEST_F(PressureTest, SeesStalledAllocationsThatScan) {
  *stats().alloc_stalls += 100;
  EXPECT_EQ(read().level, Pressure::none) << "stalls without scans are a cgroup's limit";
  *stats().alloc_stalls += 100;
  *stats().direct_scans += 10000;
  EXPECT_EQ(read().signal, Signal::alloc_stalls);
}

TEST_F(PressureTest, DoesNotTakeTheBalloonsOwnReclaimForWant) {
  guest_.target = 900 * kMiB;
  *stats().alloc_stalls += 100;
  *stats().direct_scans += 10000;
  EXPECT_EQ(read().level, Pressure::none);
}

TEST_F(PressureTest, IsCriticalForAWhileAfterAnOomKill) {
  *stats().oom_kills += 1;
  EXPECT_EQ(read().signal, Signal::oom_kill);
  EXPECT_EQ(read().level, Pressure::critical);
  for (int second = 0; second < 10; ++second) read();
  EXPECT_EQ(read().level, Pressure::none);
}

TEST_F(PressureTest, ReadsNothingFromCountersThatRunBackwardsOrAreUnknown) {
  *stats().swap_in = 5 * kGiB;
  read();
  *stats().swap_in = Bytes{0};
  EXPECT_EQ(read().level, Pressure::none);
  *stats().swap_in = Bytes::max();
  EXPECT_EQ(read().level, Pressure::none) << "2^64-1 means absent";
  *stats().swap_in = kMiB / 2;
  EXPECT_EQ(read().level, Pressure::none);
}

TEST_F(PressureTest, WorksWithWhateverSubsetOfCountersThereIs) {
  const GuestStats all = stats();
  for (unsigned mask = 0; mask < 256; ++mask) {
    stats() = all;
    if (mask & 1) stats().free.reset();
    if (mask & 2) stats().swap_in.reset();
    if (mask & 4) stats().swap_out.reset();
    if (mask & 8) stats().major_faults.reset();
    if (mask & 16) stats().oom_kills.reset();
    if (mask & 32) stats().alloc_stalls.reset();
    if (mask & 64) stats().direct_scans.reset();
    if (mask & 128) stats().total.reset();
    ASSERT_EQ(read().level, Pressure::none) << mask;
  }
}

TEST_F(PressureTest, OfABlindGuestIsWhatTheHostSees) {
  guest_.stats->available.reset();
  guest_.on_host.resident = kGiB;
  guest_.on_host.swap_in = Bytes{0};
  EXPECT_EQ(read(Source::host).level, Pressure::none) << "all touched memory counts as used: that is no sign";
  guest_.on_host.swap_in = 10 * kMiB;
  EXPECT_EQ(read(Source::host).signal, Signal::host_swap_in);
  guest_.on_host.pressure_some = 0.3;
  EXPECT_EQ(read(Source::host).signal, Signal::host_pressure);
}

}  // namespace
}  // namespace balloon::policy
