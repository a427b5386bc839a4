// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/sanitize.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/pages.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

class SanitizeTest : public ::testing::Test {
 protected:
  StatsContext context(const StatsSample* previous = nullptr) const {
    return {.memory = 2 * kGiB, .previous = previous, .wall = clock_.wall(), .now = clock_.now()};
  }
  std::string complaint(const StatsSample& stats, const StatsSample* previous = nullptr) const {
    const auto usable = usable_stats(stats, context(previous));
    return usable ? "" : usable.error().message;
  }
  test::FakeClock clock_;
  StatsSample good_ = test::sample(2 * kGiB, kGiB, 300 * kMiB);
};

TEST_F(SanitizeTest, GoodStatisticsAreCarriedOver) {
  const auto usable = usable_stats(good_, context());
  ASSERT_TRUE(usable) << usable.error().message;
  EXPECT_EQ(usable->sampled_at, clock_.now());
  EXPECT_EQ(usable->actual, kGiB);
  EXPECT_EQ(usable->available, 300 * kMiB);
  EXPECT_EQ(usable->major_faults, 1U);
  EXPECT_EQ(usable->disk_caches, std::nullopt);
}

TEST_F(SanitizeTest, ThePressureOfANewerKernelIsCarriedOver) {
  good_.oom_kills = 2;
  good_.alloc_stalls = 3;
  good_.direct_scans = 5;
  good_.direct_reclaims = 4;
  const auto usable = usable_stats(good_, context());
  ASSERT_TRUE(usable);
  EXPECT_EQ(usable->oom_kills, 2U);
  EXPECT_EQ(usable->alloc_stalls, 3U);
  EXPECT_EQ(usable->direct_scans, 5U);
  EXPECT_EQ(usable->direct_reclaims, 4U);
}

TEST_F(SanitizeTest, AvailableAboveTotalIsNonsense) {
  good_.total = kGiB;
  good_.available = kGiB + 1 * kMiB;
  EXPECT_EQ(complaint(good_), "available 1.00 GiB is above total 1 GiB");
}

TEST_F(SanitizeTest, SizesAboveBootMemoryAreNonsense) {
  auto stats = good_;
  stats.total = 3 * kGiB;
  EXPECT_EQ(complaint(stats), "total 3 GiB is above boot memory 2 GiB");
  stats = good_;
  stats.actual = 3 * kGiB;
  EXPECT_EQ(complaint(stats), "actual 3 GiB is above boot memory 2 GiB");
  stats = good_;
  stats.total.reset();
  stats.free = 3 * kGiB;
  EXPECT_EQ(complaint(stats), "free 3 GiB is above boot memory 2 GiB");
}

TEST_F(SanitizeTest, ZeroTotalAndZeroActualAreNonsense) {
  auto stats = good_;
  stats.total = Bytes{0};
  EXPECT_EQ(complaint(stats), "total is 0");
  stats = good_;
  stats.actual = Bytes{0};
  EXPECT_EQ(complaint(stats), "actual is 0");
}

TEST_F(SanitizeTest, ACounterThatGoesBackCostsItsOwnValueAndNoOther) {
  good_.swap_in = good_.swap_out = Bytes{5};
  auto before = good_;
  before.swap_in = Bytes{100};
  before.major_faults = 9;
  const auto usable = usable_stats(good_, context(&before));
  ASSERT_TRUE(usable) << usable.error().message;
  EXPECT_EQ(usable->swap_in, std::nullopt);
  EXPECT_EQ(usable->major_faults, std::nullopt);
  EXPECT_EQ(usable->swap_out, Bytes{5}) << "it stands";
  EXPECT_EQ(usable->available, 300 * kMiB);
}

TEST_F(SanitizeTest, WhatDisksReadIsCarriedOverUnlessADiskHasGone) {
  StatsSample before = good_;
  before.disk_read = Bytes{5000};
  StatsSample now = before;
  now.disk_read = Bytes{6000};
  EXPECT_EQ(usable_stats(now, context(&before))->disk_read, Bytes{6000});
  now.disk_read = Bytes{4000};
  const auto usable = usable_stats(now, context(&before));
  ASSERT_TRUE(usable) << "all else still counts";
  EXPECT_FALSE(usable->disk_read);
}

TEST_F(SanitizeTest, AllOnesIsAbsent) {
  good_.available = Bytes::max();
  good_.oom_kills = std::numeric_limits<std::uint64_t>::max();
  good_.swap_in = Bytes::max();
  drop_unknown(good_);
  EXPECT_FALSE(good_.available.has_value());
  EXPECT_FALSE(good_.oom_kills.has_value());
  EXPECT_TRUE(good_.free.has_value());
  const auto usable = usable_stats(good_, context());
  ASSERT_TRUE(usable);
  EXPECT_EQ(usable->available, std::nullopt);
  EXPECT_EQ(usable->swap_in, std::nullopt);
}

TEST_F(SanitizeTest, AnOldSampleIsAsOldAsItSays) {
  good_.sampled_at = clock_.wall() - std::chrono::seconds(30);
  EXPECT_EQ(usable_stats(good_, context())->sampled_at, clock_.now() - std::chrono::seconds(30));
}

TEST_F(SanitizeTest, ASampleFromTheFutureCountsAsNow) {
  good_.sampled_at = clock_.wall() + std::chrono::hours(24 * 365);
  EXPECT_EQ(usable_stats(good_, context())->sampled_at, clock_.now());
}

TEST_F(SanitizeTest, ASampleFromTheEpochIsAnHourOldAtMost) {
  good_.sampled_at = WallTime();
  EXPECT_EQ(usable_stats(good_, context())->sampled_at, clock_.now() - std::chrono::hours(1));
}

TEST_F(SanitizeTest, ATimeBefore1970IsNonsense) {
  good_.sampled_at = WallTime() - std::chrono::nanoseconds(1);
  EXPECT_EQ(complaint(good_), "its time is not a time");
  good_.sampled_at = WallTime::min();
  EXPECT_EQ(complaint(good_), "its time is not a time");
}

TEST_F(SanitizeTest, TheLastTimeOfTheClockCountsAsNow) {
  good_.sampled_at = WallTime::max();
  EXPECT_EQ(usable_stats(good_, context())->sampled_at, clock_.now());
}

TEST_F(SanitizeTest, AGuestsNameIsMadeOfAnyText) {
  EXPECT_EQ(guest_name_of("my server/1\n\xc3\xa4"), "my_server_1___");
  EXPECT_EQ(guest_name_of("-v1.2"), "_v1.2");
  EXPECT_EQ(guest_name_of(std::string(100, 'x')).size(), 64U);
}

TEST_F(SanitizeTest, TextOfAVmmIsMadeFitForLogs) {
  EXPECT_EQ(printable("no\nroot logged in\x1b[2J"), "no?root logged in?[2J");
  EXPECT_EQ(printable(" ~\x1f\x7f"), " ~??");
  EXPECT_EQ(printable(std::string(1000, 'x')).size(), 200U);
}

TEST_F(SanitizeTest, BalloonSizesAreBoundByBootMemory) {
  BalloonState balloon;
  balloon.actual = 3 * kGiB;
  balloon.target = kGiB;
  EXPECT_TRUE(clamp_balloon(balloon, 2 * kGiB));
  EXPECT_EQ(balloon.actual, 2 * kGiB);
  EXPECT_EQ(balloon.target, kGiB);
  EXPECT_FALSE(clamp_balloon(balloon, 2 * kGiB));
}

TEST_F(SanitizeTest, RegistrationsThatMakeNoSenseAreRefused) {
  EXPECT_TRUE(check_registration(test::registration("a.b_c-D9", kGiB, kGiB)));
  for (const std::string& name :
       {std::string(), std::string(65, 'a'), std::string("a b"), std::string("../x"), std::string("a\n"),
        std::string("."), std::string(".."), std::string("-rf")}) {
    EXPECT_FALSE(check_registration(test::registration(name, kGiB, kGiB))) << "'" << name << "'";
  }
  for (const policy::Bytes memory : {policy::Bytes{0}, policy::Bytes{4097}, 64 * kTiB + kPageSize}) {
    EXPECT_FALSE(check_registration(test::registration("a", memory, Bytes{0}))) << format_bytes(memory);
  }
  auto without_balloon = test::registration("a", kGiB, kGiB);
  without_balloon.balloon.reset();
  EXPECT_FALSE(check_registration(without_balloon));
  auto labels = test::registration("a", kGiB, kGiB);
  labels.labels["tier"] = "db\x1b[2J";
  EXPECT_FALSE(check_registration(labels)) << "a terminal's control characters in a label";
}

bool takes(const std::string& label) {
  auto guest = test::registration("a", kGiB, kGiB);
  guest.labels["tier"] = label;
  return check_registration(guest).has_value();
}

/// In UTF-8, be it a character or not.
std::string encoded(char32_t code) {
  const auto rest = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xc0 | code >> 6), rest(0)};
  if (code < 0x10000) return {static_cast<char>(0xe0 | code >> 12), rest(6), rest(0)};
  return {static_cast<char>(0xf0 | code >> 18), rest(12), rest(6), rest(0)};
}

TEST_F(SanitizeTest, LabelsAreTextThatATerminalOnlyShows) {
  EXPECT_TRUE(takes("Datenbank für Zürich, 東京 🐘"));
  EXPECT_FALSE(
      takes("\xc2\x9b"
            "2J"))
      << "C1: CSI";
  EXPECT_FALSE(
      takes("\xe2\x80\xae"
            "gpj.exe"))
      << "right-to-left override";
  EXPECT_FALSE(
      takes("\xe2\x81\xa6"
            "x"))
      << "left-to-right isolate";
  EXPECT_FALSE(
      takes("a\xe2\x80\x8b"
            "b"))
      << "zero width";
  EXPECT_FALSE(takes("\x7f"));
  // Not UTF-8 (protobuf refuses these on the wire, too): C1 as a byte, ESC longer than it need be, a half, a
  // surrogate.
  for (const char* bytes : {"\x9b"
                            "2J",
                            "\xc0\x9b", "\xe2\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80"})
    EXPECT_FALSE(takes(bytes));
}

TEST_F(SanitizeTest, WhatALabelMayNotHaveIsRefusedFromItsFirstCharacterToItsLast) {
  struct Range {
    char32_t first, last;
  };
  for (const auto& [first, last] :
       {Range{0x0, 0x1f}, Range{0x7f, 0x9f}, Range{0xad, 0xad}, Range{0x61c, 0x61c}, Range{0x200b, 0x200f},
        Range{0x2028, 0x202e}, Range{0x2060, 0x206f}, Range{0xd800, 0xdfff}, Range{0xfeff, 0xfeff},
        Range{0xfff9, 0xfffb}, Range{0xe0000, 0xe007f}, Range{0x110000, 0x1fffff}}) {
    EXPECT_FALSE(takes(encoded(first))) << std::hex << std::uint32_t{first};
    EXPECT_FALSE(takes(encoded(last))) << std::hex << std::uint32_t{last};
    EXPECT_TRUE(first == 0 || takes(encoded(first - 1))) << "before " << std::hex << std::uint32_t{first};
    EXPECT_TRUE(last > 0x10ffff || takes(encoded(last + 1))) << "after " << std::hex << std::uint32_t{last};
  }
}

}  // namespace
}  // namespace balloon::daemon
