// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/unit/vmm/devices/balloon/balloon_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;

// Free page reporting

TEST_F(BalloonTest, ReportedRangesAreReleased) {
  start();
  touch(kVictim, 16);
  ChainBuilder(queue(kReporting))
      .writable_at(kVictims, 4 * kPageSize)
      .writable_at(kVictims + 8 * kPageSize, 2 * kPageSize)
      .submit_indirect();
  const auto used = driver_->kick_and_wait(kReporting);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 0U) << "another length would claim that the device initialised the pages";
  EXPECT_EQ(resident(kVictim, 16), 10U);
  EXPECT_TRUE(is_patterned(kVictim + 4) && is_patterned(kVictim + 10));
  EXPECT_EQ(balloon_->counters().reported, 6 * balloon::kPageSize);
  EXPECT_EQ(balloon_->counters().inflated, Bytes{0});
}

TEST_F(BalloonTest, OnlyWholePagesOfAMisalignedReportAreReleased) {
  start();
  touch(kVictim, 4);
  ChainBuilder(queue(kReporting)).writable_at(kVictims + 100, 3 * kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_TRUE(is_patterned(kVictim) && is_patterned(kVictim + 3));
  EXPECT_TRUE(is_zero(kVictim + 1) && is_zero(kVictim + 2));
  ChainBuilder(queue(kReporting)).writable_at(kVictims + 100, 200).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_TRUE(is_patterned(kVictim));
}

TEST_F(BalloonTest, ReportedPagesOfAGuestThatPoisonsThemAreKept) {
  start();
  driver_->write_config<std::uint32_t>(kPoison, 0xaaaaaaaa);
  touch(kVictim, 2);
  ChainBuilder(queue(kReporting)).writable_at(kVictims, 2 * kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting)) << "yet the chain goes back";
  EXPECT_TRUE(is_patterned(kVictim) && is_patterned(kVictim + 1));
  EXPECT_EQ(balloon_->counters().reports_kept, 1U);

  driver_->reset();
  driver_->start(kAtOnce);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kPoison), 0U) << "the next driver may not poison";
  ChainBuilder(queue(kReporting)).writable_at(kVictims, 2 * kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_TRUE(is_zero(kVictim));
}

TEST_F(BalloonTest, APoisonValueWrittenBeforeDriverOkCounts) {  // as Linux does in virtballoon_probe
  make();
  driver_->write_config<std::uint32_t>(kPoison, 0xaaaaaaaa);
  driver_->start(kAtOnce);
  touch(kVictim, 1);
  ChainBuilder(queue(kReporting)).writable_at(kVictims, kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_TRUE(is_patterned(kVictim));
}

TEST_F(BalloonTest, APoisonValueOfADriverThatDidNotNegotiateItDoesNotCount) {
  make();
  driver_->write_config<std::uint32_t>(kPoison, 0xaaaaaaaa);
  driver_->start(~Balloon::kFeaturePagePoison);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kPoison), 0U);
  touch(kVictim, 1);
  ChainBuilder(queue(kReporting)).writable_at(kVictims, kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_TRUE(is_zero(kVictim));
}

TEST_F(BalloonTest, ADeviceReadableReportReleasesNothing) {
  start();
  touch(kVictim, 2);
  ChainBuilder(queue(kReporting)).readable_at(kVictims, 2 * kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_TRUE(is_patterned(kVictim));
}

TEST_F(BalloonTest, AReportThatWasNotNegotiatedReleasesNothing) {
  start({}, ~Balloon::kFeatureReporting);
  touch(kVictim, 2);
  ChainBuilder(queue(kReporting)).writable_at(kVictims, 2 * kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReporting));
  EXPECT_TRUE(is_patterned(kVictim));
  EXPECT_FALSE(balloon_->state().free_page_reporting);
}

}  // namespace
}  // namespace balloon::vmm
