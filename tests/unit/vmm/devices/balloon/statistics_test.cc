// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/balloon/balloon_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::HasSubstr;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

// Statistics

TEST_F(BalloonTest, TheFirstBufferIsStaleSoItsValuesAreDiscarded) {
  start();
  send_stats(111);
  balloon_->set_stats_interval(20ms);
  const auto request = wait_stats_request();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->length, 0U);
  EXPECT_TRUE(samples().empty());
  send_stats(222);
  ASSERT_EQ(samples().size(), 1U);
  EXPECT_EQ(samples()[0].values[static_cast<std::size_t>(StatTag::free_memory)], 222U);
}

TEST_F(BalloonTest, EachIntervalBringsAFreshTimeStampedSample) {
  start();
  const auto before = std::chrono::system_clock::now();
  balloon_->set_stats_interval(20ms);
  driver_->write_config<std::uint32_t>(kActual, 256);
  for (std::uint64_t value = 0; value < 4; ++value) {
    send_stats(value);
    ASSERT_TRUE(wait_stats_request()) << value;
  }
  ASSERT_EQ(samples().size(), 3U);
  EXPECT_EQ(samples()[2].values[4], 3U);
  EXPECT_EQ(samples()[2].actual, memory_.size() - kMiB);
  EXPECT_GE(samples()[0].sampled_at, before);
  EXPECT_LE(samples()[2].sampled_at, std::chrono::system_clock::now());
  EXPECT_GT(samples()[1].sampled_at, samples()[0].sampled_at);
  EXPECT_GE(driver_->host().queue_interrupts(kStats), 1);
}

TEST_F(BalloonTest, ASecondBufferWhileOneIsHeldIsReturnedAtOnce) {  // Firecracker 326fc46db; QEMU loses it
  start();
  send_stats(1);
  const std::uint16_t second = send_stats(2);
  const auto used = wait_stats_request();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, second);
  EXPECT_EQ(balloon_->counters().stats_returned, 1U);
  // The held one still works.
  balloon_->set_stats_interval(20ms);
  ASSERT_TRUE(wait_stats_request());
  send_stats(3);
  ASSERT_EQ(samples().size(), 1U);
  EXPECT_EQ(samples()[0].values[4], 3U);
}

TEST_F(BalloonTest, WhileTheGuestHasNotAnsweredNoSecondRequestIsMade) {
  start();
  send_stats(1);
  balloon_->set_stats_interval(10ms);
  ASSERT_TRUE(wait_stats_request());
  pass(100ms);
  EXPECT_EQ(queue(kStats).used_index(), 1);
}

TEST_F(BalloonTest, TheIntervalCanBeSetBeforeTheDriverIsUpAndChangedAndStoppedLater) {
  make();
  balloon_->set_stats_interval(20ms);
  pass(60ms);  // ticks without a driver
  driver_->start(kAtOnce);
  send_stats(1);
  ASSERT_TRUE(wait_stats_request());
  balloon_->set_stats_interval(0s);
  send_stats(2);
  EXPECT_EQ(samples().size(), 1U) << "the answer to what was asked before";
  pass(100ms);
  EXPECT_FALSE(queue(kStats).pop_used()) << "stopped";
  balloon_->set_stats_interval(10ms);
  EXPECT_TRUE(wait_stats_request());
}

TEST_F(BalloonTest, AResetDropsTheHeldBufferAndWritesNothingToTheOldRing) {
  start();
  send_stats(1);
  driver_->reset();
  balloon_->set_stats_interval(10ms);
  pass(50ms);
  EXPECT_EQ(queue(kStats).used_index(), 0);
  EXPECT_EQ(driver_->host().queue_interrupts(kStats), 0);
  // The next driver's statistics work (Firecracker #2590: dead for ever), and its first buffer is stale
  // again.
  driver_->start(kAtOnce);
  send_stats(2);
  ASSERT_TRUE(wait_stats_request());
  EXPECT_TRUE(samples().empty());
  send_stats(3);
  EXPECT_EQ(samples().size(), 1U);
}

TEST_F(BalloonTest, StatisticsOfAnyLengthAndSplitAcrossDescriptorsAreTakenAsTheyCome) {
  start();
  balloon_->set_stats_interval(10ms);
  send_stats(0);
  ASSERT_TRUE(wait_stats_request());
  // 1 MiB of entries with tag 0: only the first part is looked at, and the buffer comes back.
  ChainBuilder(queue(kStats)).readable_at(kVictims, 1_MiB).submit();
  driver_->kick(kStats);
  ASSERT_TRUE(wait_stats_request());
  // Half an entry in each of two descriptors, then 3 odd bytes.
  std::vector<std::byte> entry(13);
  entry[0] = std::byte{5};
  entry[2] = std::byte{77};
  ChainBuilder(queue(kStats))
      .readable(std::span(entry).first(5))
      .readable(std::span(entry).subspan(5))
      .submit();
  driver_->kick(kStats);
  ASSERT_EQ(samples().size(), 2U);
  EXPECT_EQ(samples()[0].values[0], 0U);
  EXPECT_EQ(samples()[1].values[5], 77U);
  EXPECT_EQ(samples()[1].values[4], std::nullopt);
}

TEST_F(BalloonTest, NonsenseFromTheGuestIsPassedOnAndHarmsNothing) {
  start();
  balloon_->set_stats_interval(10ms);
  send_stats(0);
  ASSERT_TRUE(wait_stats_request());
  send_stats(~0ULL);
  ASSERT_EQ(samples().size(), 1U);
  EXPECT_EQ(samples()[0].values[4], ~0ULL);
}

// Statistics on demand

TEST_F(BalloonTest, AFreshSampleIsGatheredAfterItWasAskedForAndSaysHowLongItTook) {
  start();
  send_stats(111);
  std::optional<Result<BalloonStats>> reply;
  balloon_->request_stats([&](Result<BalloonStats> stats) { reply = std::move(stats); });
  ASSERT_TRUE(wait_stats_request()) << "at once, whatever the interval";
  EXPECT_FALSE(reply);
  pass(30ms);
  send_stats(222);
  ASSERT_TRUE(reply && *reply);
  EXPECT_EQ((*reply)->values[4], 222U);
  EXPECT_GE((*reply)->round_trip, 30ms);
  EXPECT_LT((*reply)->round_trip, 30s);
  EXPECT_EQ(samples().size(), 1U) << "the observer has it as well";
}

TEST_F(BalloonTest, WhatTheGuestWasAskedBeforeIsNotFreshEnough) {
  start();
  send_stats(0);
  std::vector<std::uint64_t> replies;
  const auto ask = [&] {
    balloon_->request_stats([&](const Result<BalloonStats>& stats) { replies.push_back(*stats->values[4]); });
    settle();
  };
  ask();
  ASSERT_TRUE(wait_stats_request());
  ask();
  ask();
  send_stats(1);
  EXPECT_THAT(replies, ::testing::ElementsAre(1U));
  ASSERT_TRUE(wait_stats_request()) << "the guest is asked again for the others";
  send_stats(2);
  EXPECT_THAT(replies, ::testing::ElementsAre(1U, 2U, 2U));
  EXPECT_FALSE(queue(kStats).pop_used());
}

TEST_F(BalloonTest, WhyThereAreNoStatisticsIsSaid) {
  make();
  std::string why;
  const auto ask = [&] {
    balloon_->request_stats(
        [&](const Result<BalloonStats>& stats) { why = stats ? "" : stats.error().message; });
    settle();
  };
  ask();
  EXPECT_THAT(why, HasSubstr("no balloon driver"));
  driver_->start(~Balloon::kFeatureStats);
  ask();
  EXPECT_THAT(why, HasSubstr("no balloon driver with statistics"));
  driver_->reset();
  driver_->start(kAtOnce);
  why.clear();
  ask();
  EXPECT_EQ(why, "") << "the driver is slow to send its first buffer";
  send_stats(1);
  EXPECT_TRUE(wait_stats_request()) << "asked for as soon as there is something to ask with";
  driver_->reset();
  EXPECT_THAT(why, HasSubstr("went away"));
}

TEST_F(BalloonTest, AGuestThatNeverAnswersLetsNoMoreThanAFewWait) {
  start();
  send_stats(0);
  int refused = 0;
  for (std::size_t i = 0; i < StatsRequests::kMostWaiting + 3; ++i) {
    balloon_->request_stats([&](const Result<BalloonStats>& stats) {
      if (!stats && stats.error().message.find("too many") != std::string::npos) ++refused;
    });
  }
  settle();
  EXPECT_EQ(refused, 3);
}

}  // namespace
}  // namespace balloon::vmm
