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

// Identity

TEST_F(BalloonTest, OffersWhatItDoesAndNothingElse) {
  make();
  EXPECT_EQ(balloon_->id(), DeviceId::balloon);
  EXPECT_EQ(balloon_->offered_features(),
            kFeatureIndirectDesc | kFeatureEventIdx | 1U << 0 | 1U << 1 | 1U << 2 | 1U << 4 | 1U << 5);
  EXPECT_EQ(balloon_->queue_sizes().size(), 4U);
  EXPECT_GE(balloon_->queue_sizes()[kReporting], 32U) << "Linux refuses to report on a shorter queue";
  EXPECT_EQ(balloon_->config_size(), 16U);
}

TEST_F(BalloonTest, WhatIsSwitchedOffIsNotOffered) {
  make({.deflate_on_oom = false, .free_page_reporting = false});
  EXPECT_EQ(balloon_->offered_features(), kFeatureIndirectDesc | kFeatureEventIdx | 1U << 0 | 1U << 1);
  EXPECT_EQ(balloon_->queue_sizes().size(), 3U);
}

// Inflate

TEST_F(BalloonTest, InflatedPagesAreFreedOnTheHostAndTheirNeighboursAreNot) {
  start();
  touch(kVictim, 16);
  ASSERT_EQ(resident(kVictim, 16), 16U);
  EXPECT_EQ(send(kInflate, {kVictim + 6, kVictim + 5, kVictim + 4, kVictim + 10}), 0U);
  EXPECT_EQ(resident(kVictim, 16), 12U);
  for (std::uint32_t page = 0; page < 16; ++page) {
    const bool inflated = (page >= 4 && page <= 6) || page == 10;
    EXPECT_EQ(inflated ? is_zero(kVictim + page) : is_patterned(kVictim + page), true) << page;
  }
  EXPECT_EQ(balloon_->counters().inflated, 4 * balloon::kPageSize);
  EXPECT_EQ(driver_->host().queue_interrupts(kInflate), 1);
}

TEST_F(BalloonTest, AllDescriptorsOfAnInflateChainAreRead) {  // Cloud Hypervisor 52db3f865
  start();
  touch(kVictim, 6);
  ChainBuilder(queue(kInflate))
      .readable_values<std::uint32_t>({kVictim, kVictim + 1})
      .readable_values<std::uint32_t>({kVictim + 2})
      .readable_values<std::uint32_t>({kVictim + 4})
      .submit_indirect();
  ASSERT_TRUE(driver_->kick_and_wait(kInflate));
  EXPECT_EQ(resident(kVictim, 6), 2U);
  EXPECT_TRUE(is_patterned(kVictim + 3) && is_patterned(kVictim + 5));
}

TEST_F(BalloonTest, APfnThatIsSplitAcrossDescriptorsIsRead) {
  start();
  touch(kVictim, 2);
  const std::uint32_t pfn = kVictim;
  const auto raw = std::as_bytes(std::span(&pfn, 1));
  ChainBuilder(queue(kInflate)).readable(raw.first(1)).readable(raw.subspan(1)).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kInflate));
  EXPECT_TRUE(is_zero(kVictim));
  EXPECT_TRUE(is_patterned(kVictim + 1));
}

TEST_F(BalloonTest,
       MoreThanTheUsual256PfnsAreAllReleasedAndReturned) {  // Firecracker skips such a chain and leaks it
  start();
  constexpr std::uint32_t kPages = 5000;
  touch(kVictim, kPages);
  std::vector<std::uint32_t> pfns(kPages);
  for (std::uint32_t i = 0; i < kPages; ++i) pfns[i] = kVictim + kPages - 1 - i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_TRUE(eventually([&] { return resident(kVictim, kPages) == 0; }));
  EXPECT_EQ(balloon_->counters().inflated, kPages * balloon::kPageSize);
}

TEST_F(BalloonTest, TwoHalvesOfAHugePageAreReleasedInOneGo) {
  start({}, kGather);
  constexpr std::uint32_t kHalf = 256;
  touch(kVictim, 2 * kHalf);
  std::vector<std::uint32_t> pfns(kHalf);
  for (std::uint32_t i = 0; i < kHalf; ++i) pfns[i] = kVictim + i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_EQ(balloon_->counters().inflated, Bytes{0}) << "its other half may follow";
  for (std::uint32_t& pfn : pfns) pfn += kHalf;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_EQ(balloon_->counters().inflated, Bytes{0}) << "a neighbour may follow";
  ASSERT_TRUE(balloon_->set_target(memory_.size() - Bytes{kHugePageSize}));
  driver_->write_config<std::uint32_t>(kActual, 2 * kHalf);
  EXPECT_EQ(balloon_->counters().inflated, Bytes{kHugePageSize}) << "the driver says that it is there";
  EXPECT_EQ(resident(kVictim, 2 * kHalf), 0U);
}

TEST_F(BalloonTest, HalfAHugePageIsReleasedSoonWhenNothingFollows) {
  start({}, kGather);
  touch(kVictim, 256);
  std::vector<std::uint32_t> pfns(256);
  for (std::uint32_t i = 0; i < 256; ++i) pfns[i] = kVictim + i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_EQ(balloon_->state().actual, memory_.size()) << "not the host's yet";
  EXPECT_TRUE(eventually([&] { return balloon_->counters().inflated == kMiB; }));
}

TEST_F(BalloonTest, WhatIsHeldBackIsTheGuestsUntilItIsReleased) {
  start({}, kGather);
  std::vector<std::uint32_t> pfns(256);
  for (std::uint32_t i = 0; i < 256; ++i) pfns[i] = kVictim + i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  const std::uint32_t actual = 256;
  {
    const std::lock_guard lock(balloon_->mutex());
    balloon_->write_config(kActual, std::as_bytes(std::span(&actual, 1)));
  }
  EXPECT_EQ(balloon_->state().actual, memory_.size());
  EXPECT_TRUE(eventually([&] { return balloon_->state().actual == memory_.size() - kMiB; }));
  EXPECT_TRUE(eventually([&] { return states().back().actual == memory_.size() - kMiB; }))
      << "the observer is told";
}

TEST_F(BalloonTest, PagesTakenBackBeforeTheirReleaseKeepTheirContents) {
  start({}, kGather);
  touch(kVictim, 256);
  std::vector<std::uint32_t> pfns(256);
  for (std::uint32_t i = 0; i < 256; ++i) pfns[i] = kVictim + i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_EQ(send(kDeflate, pfns), 0U);
  touch(kVictim, 256);
  pass(Balloon::kHoldBack);
  EXPECT_TRUE(is_patterned(kVictim));
  EXPECT_TRUE(is_patterned(kVictim + 255));
  EXPECT_EQ(balloon_->counters().inflated, Bytes{0});
}

TEST_F(BalloonTest, ADriverThatTellsNobodyWhatItTakesBackHasItsPagesReleasedAtOnce) {
  start();
  touch(kVictim, 256);
  std::vector<std::uint32_t> pfns(256);
  for (std::uint32_t i = 0; i < 256; ++i) pfns[i] = kVictim + i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_EQ(balloon_->counters().inflated, kMiB);
}

TEST_F(BalloonTest, AResetReleasesNothingOfWhatWasHeldBack) {
  start({}, kGather);
  touch(kVictim, 256);
  std::vector<std::uint32_t> pfns(256);
  for (std::uint32_t i = 0; i < 256; ++i) pfns[i] = kVictim + i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  driver_->reset();
  pass(Balloon::kHoldBack);
  EXPECT_TRUE(is_patterned(kVictim)) << "the next driver has all pages";
}

TEST_F(BalloonTest, PfnsOutsideRamAreIgnoredAndTheOthersOfTheChainReleased) {
  start();
  touch(kVictim, 1);
  const auto end = static_cast<std::uint32_t>(memory_.size() / balloon::kPageSize);
  EXPECT_EQ(send(kInflate, {end, 0xfee00, 0x100000, 0xffffffff, kVictim}), 0U);
  EXPECT_TRUE(is_zero(kVictim));
  EXPECT_EQ(balloon_->counters().pages_refused, 4U);
  EXPECT_EQ(balloon_->counters().inflated, balloon::kPageSize);
  EXPECT_EQ(driver_->host().reset_reason(), "");
}

TEST_F(BalloonTest, ARunOfPfnsAcrossTheEndOfRamIsReleasedUpToIt) {  // Cloud Hypervisor 326cd8807
  start();
  const auto end = static_cast<std::uint32_t>(memory_.size() / balloon::kPageSize);
  touch(end - 2, 2);
  EXPECT_EQ(send(kInflate, {end + 1, end, end - 1, end - 2}), 0U);
  EXPECT_EQ(resident(end - 2, 2), 0U);
  EXPECT_EQ(balloon_->counters().inflated, 2 * balloon::kPageSize);
  EXPECT_EQ(balloon_->counters().pages_refused, 2U);
}

TEST_F(BalloonTest, APageInflatedTwiceHarmsNothing) {
  start();
  touch(kVictim, 2);
  EXPECT_EQ(send(kInflate, {kVictim, kVictim, kVictim}), 0U);
  EXPECT_EQ(balloon_->counters().inflated, balloon::kPageSize) << "once within a chain";
  EXPECT_EQ(send(kInflate, {kVictim}), 0U);
  EXPECT_TRUE(is_patterned(kVictim + 1));
}

TEST_F(BalloonTest, EmptyAndOddLengthsAreReturned) {
  start();
  touch(kVictim, 1);
  EXPECT_EQ(send(kInflate, {}), 0U);
  const std::uint32_t pfns[] = {kVictim, kVictim + 1};
  ChainBuilder(queue(kInflate)).readable(std::as_bytes(std::span(pfns)).first(7)).submit();
  EXPECT_TRUE(driver_->kick_and_wait(kInflate));
  EXPECT_TRUE(is_zero(kVictim));
  ChainBuilder(queue(kInflate)).readable(std::as_bytes(std::span(pfns)).first(3)).submit();
  EXPECT_TRUE(driver_->kick_and_wait(kInflate));
}

TEST_F(BalloonTest, AWritableBufferOnTheInflateQueueIsReturnedUntouched) {
  start();
  ChainBuilder builder(queue(kInflate));
  builder.writable(8).submit();
  const auto used = driver_->kick_and_wait(kInflate);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 0U);
}

TEST_F(BalloonTest,
       AHugePfnArrayIsReadOnlyAsFarAsTheGuestHasPages) {  // virtio-villain L0010, OSS-Fuzz on #4725
  start();
  ChainBuilder(queue(kInflate)).readable_at(kVictims, 40_MiB).submit();
  const auto used = driver_->kick_and_wait(kInflate);
  ASSERT_TRUE(used);
  const std::uint64_t pages = memory_.size() / balloon::kPageSize;
  EXPECT_EQ(balloon_->counters().pages_refused, 40_MiB / 4 - pages);
}

TEST_F(BalloonTest, InflatingTheRingsOwnPageHarmsOnlyTheGuestAndAResetMendsIt) {  // virtio-villain L0021
  start();
  const auto ring = static_cast<std::uint32_t>(queue(kInflate).layout().available / kPageSize);
  ChainBuilder(queue(kInflate)).readable_values<std::uint32_t>({ring}).submit();
  driver_->kick(kInflate);
  driver_->kick(kInflate);
  driver_->reset();
  driver_->start(kAtOnce);
  touch(kVictim, 1);
  EXPECT_EQ(send(kInflate, {kVictim}), 0U);
  EXPECT_TRUE(is_zero(kVictim));
}

TEST_F(BalloonTest, AFullRingIsServedWithOneKick) {
  start();
  touch(kVictim, Balloon::kQueueSize);
  for (std::uint32_t i = 0; i < Balloon::kQueueSize; ++i) {
    ChainBuilder(queue(kInflate)).readable_values<std::uint32_t>({kVictim + i}).submit();
  }
  driver_->kick(kInflate);
  EXPECT_TRUE(eventually([&] { return queue(kInflate).used_index() == Balloon::kQueueSize; }));
  EXPECT_EQ(resident(kVictim, Balloon::kQueueSize), 0U);
}

TEST_F(BalloonTest,
       ChainsThatWereThereBeforeDriverOkAreServedWithoutAKick) {  // Linux kicks statistics before it
  make();
  balloon_->set_stats_interval(20ms);
  driver_->start(kAtOnce);
  const std::uint64_t none = 0;
  ChainBuilder(queue(kStats)).readable(std::as_bytes(std::span(&none, 1))).submit();
  driver_->reset();
  // The same rings again, with the chain already in them.
  std::vector<std::unique_ptr<VirtQueue>> queues;
  for (std::uint16_t index = 0; index < 4; ++index) {
    queues.push_back(std::make_unique<VirtQueue>(*VirtQueue::create(memory_, queue(index).layout())));
  }
  {
    const std::lock_guard lock(balloon_->mutex());
    balloon_->activate(balloon_->offered_features(), std::move(queues));
  }
  EXPECT_TRUE(wait_stats_request());
}

// Deflate

TEST_F(BalloonTest, DeflateOnlyAcknowledges) {
  start();
  touch(kVictim, 2);
  EXPECT_EQ(send(kDeflate, {kVictim, kVictim + 1, 0xffffffff}), 0U);
  EXPECT_TRUE(is_patterned(kVictim) && is_patterned(kVictim + 1));
  EXPECT_EQ(balloon_->counters().pages_deflated, 3U);
  EXPECT_EQ(driver_->host().queue_interrupts(kDeflate), 1);
}

TEST_F(BalloonTest, AnInflatedPageIsUsableAgainAfterDeflate) {
  start();
  touch(kVictim, 1);
  send(kInflate, {kVictim});
  send(kDeflate, {kVictim});
  touch(kVictim, 1);
  EXPECT_TRUE(is_patterned(kVictim));
}

// Target and config space

TEST_F(BalloonTest, ATargetBelowTheBootMemoryReachesTheGuestWithAConfigInterrupt) {
  start();
  ASSERT_TRUE(balloon_->set_target(48 * kMiB));
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kNumPages), 16_MiB / kPageSize);
  EXPECT_EQ(driver_->host().config_interrupts(), 1);
  EXPECT_EQ(balloon_->state().target, 48 * kMiB);
  ASSERT_TRUE(balloon_->set_target(48 * kMiB));
  EXPECT_EQ(driver_->host().config_interrupts(), 1) << "nothing changed";
}

TEST_F(BalloonTest, ATargetAboveTheBootMemoryIsRefusedWithTheReason) {
  start();
  ASSERT_TRUE(balloon_->set_target(48 * kMiB));
  for (const Bytes target : {memory_.size() + Bytes{1}, 1024 * kGiB, Bytes::max()}) {
    const auto refused = balloon_->set_target(target);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("above the guest's boot memory of 64 MiB"));
  }
  EXPECT_EQ(balloon_->state().target, 48 * kMiB) << "the old one stays";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kNumPages), 16_MiB / kPageSize);
  EXPECT_EQ(driver_->host().config_interrupts(), 1);
}

TEST_F(BalloonTest, ATargetIsRoundedDownToAPage) {
  start();
  ASSERT_TRUE(balloon_->set_target(48 * kMiB + balloon::kPageSize - Bytes{1}));
  EXPECT_EQ(balloon_->state().target, 48 * kMiB);
}

TEST_F(BalloonTest, ATargetBeforeTheDriverIsThereWaitsInTheConfigSpace) {
  make();
  ASSERT_TRUE(balloon_->set_target(32 * kMiB));
  EXPECT_EQ(driver_->host().config_interrupts(), 0);
  driver_->start(kAtOnce);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kNumPages), 32_MiB / kPageSize);
}

TEST_F(BalloonTest, TheInitialTargetIsTheBootMemoryUnlessConfigured) {
  make();
  EXPECT_EQ(balloon_->state().target, memory_.size());
  driver_.reset();
  make({.initial_target = 8 * kMiB});
  EXPECT_EQ(balloon_->state().target, 8 * kMiB);
  EXPECT_FALSE(Balloon::create({.initial_target = kGiB}, memory_, *loop_));
}

TEST_F(BalloonTest, TheGuestCanWriteActualOnly) {  // Firecracker lets it rewrite num_pages
  start({}, ~Balloon::kFeaturePagePoison);
  ASSERT_TRUE(balloon_->set_target(48 * kMiB));
  for (const std::uint32_t offset : {kNumPages, kFreePageHint, kPoison}) {
    const auto before = driver_->read_config<std::uint32_t>(offset);
    driver_->write_config<std::uint32_t>(offset, 0xdeadbeef);
    EXPECT_EQ(driver_->read_config<std::uint32_t>(offset), before) << offset;
  }
  driver_->write_config<std::uint64_t>(kNumPages, 0x1000ULL << 32 | 0x77);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kNumPages), 16_MiB / kPageSize);
  EXPECT_EQ(balloon_->state().actual, 48 * kMiB);
  driver_->write_config<std::uint8_t>(kActual + 1, 0x20);
  EXPECT_EQ(balloon_->state().actual, 32 * kMiB);
}

TEST_F(BalloonTest, AnAbsurdActualIsClampedAndNeverUnderflows) {  // Cloud Hypervisor #7903
  start();
  for (const std::uint32_t actual : {0x4001U, 0x80000000U, 0xffffffffU}) {
    driver_->write_config<std::uint32_t>(kActual, actual);
    EXPECT_EQ(balloon_->state().actual, Bytes{0}) << actual;
  }
  driver_->write_config<std::uint32_t>(kActual, 0x4000);
  EXPECT_EQ(balloon_->state().actual, Bytes{0});
  driver_->write_config<std::uint32_t>(kActual, 0);
  EXPECT_EQ(balloon_->state().actual, memory_.size());
}

TEST_F(BalloonTest, EachChangeOfStateIsToldOnce) {
  start({}, ~Balloon::kFeatureDeflateOnOom);
  ASSERT_EQ(states().size(), 1U);
  EXPECT_EQ(states()[0], (BalloonState{.actual = memory_.size(),
                                       .target = memory_.size(),
                                       .driver_ready = true,
                                       .has_stats = true,
                                       .deflate_on_oom = false,
                                       .free_page_reporting = true}));
  balloon_->set_target(48 * kMiB);
  driver_->write_config<std::uint32_t>(kActual, 16);
  driver_->write_config<std::uint32_t>(kActual, 16);
  driver_->reset();
  const auto told = states();
  ASSERT_EQ(told.size(), 4U);
  EXPECT_EQ(told[1].target, 48 * kMiB);
  EXPECT_EQ(told[2].actual, memory_.size() - 16 * balloon::kPageSize);
  EXPECT_FALSE(told[3].driver_ready);
  EXPECT_EQ(told[3].actual, memory_.size()) << "the next driver starts with an empty balloon";
  EXPECT_EQ(told[3].target, 48 * kMiB) << "and inflates again";
}

TEST_F(BalloonTest, AnObserverThatWasRemovedIsNotCalled) {
  start();
  balloon_->observe({}, {});
  balloon_->set_target(48 * kMiB);
  EXPECT_EQ(states().size(), 1U);
}

// Counters

TEST_F(BalloonTest, WhatWasNeverTouchedIsReleasedButFreesNothing) {
  start();
  touch(kVictim, 8);
  std::vector<std::uint32_t> pfns(16);
  for (std::uint32_t i = 0; i < 16; ++i) pfns[i] = kVictim + 504 + i;
  EXPECT_EQ(send(kInflate, pfns), 0U);
  const BalloonCounters counters = balloon_->counters();
  EXPECT_EQ(counters.inflated, 16 * balloon::kPageSize);
  EXPECT_LE(counters.freed, 8 * balloon::kPageSize) << "those of the touched huge page";
}

TEST_F(BalloonTest, ItsRateAndStallsAreCounted) {
  start();
  ASSERT_TRUE(balloon_->set_target(32 * kMiB));
  pass(20ms);
  driver_->write_config<std::uint32_t>(kActual, 16_MiB / kPageSize);
  const std::uint64_t rate = balloon_->counters().rate;
  EXPECT_GT(rate, 1_MiB);
  EXPECT_LE(rate, 16_MiB / 0.02);
  EXPECT_EQ(balloon_->counters().stalls, 0U);
  pass(BalloonPace::kStall);
  EXPECT_EQ(balloon_->counters().stalls, 1U);
}

// Other harm that a guest may try

TEST_F(BalloonTest, InflatingLowMemoryTablesAndRomHarmsOnlyTheGuest) {
  start();
  std::vector<std::uint32_t> pfns(256);
  for (std::uint32_t i = 0; i < 256; ++i) pfns[i] = i;  // the first MiB: boot data, ACPI tables, reset vector
  EXPECT_EQ(send(kInflate, pfns), 0U);
  EXPECT_EQ(balloon_->counters().inflated, kMiB);
  EXPECT_EQ(driver_->host().reset_reason(), "");
  touch(kVictim, 1);
  EXPECT_EQ(send(kInflate, {kVictim}), 0U);
  EXPECT_TRUE(is_zero(kVictim));
}

TEST_F(BalloonTest, InflatingTheStatisticsBufferLeavesNothingButZeros) {
  start();
  ChainBuilder(queue(kStats)).readable_at(kVictims, 100).submit();
  driver_->kick(kStats);
  EXPECT_EQ(send(kInflate, {kVictim}), 0U);
  balloon_->set_stats_interval(10ms);
  ASSERT_TRUE(wait_stats_request());
  ChainBuilder(queue(kStats)).readable_at(kVictims, 100).submit();
  driver_->kick(kStats);
  ASSERT_EQ(samples().size(), 1U);
  EXPECT_EQ(samples()[0].values[0], 0U);
}

// Broken guests

class BrokenGuest : public BalloonTest, public ::testing::WithParamInterface<std::uint16_t> {};

TEST_P(BrokenGuest, ABrokenChainAsksForAResetAndTheDeviceWorksAgainAfterIt) {
  const std::uint16_t index = GetParam();
  const std::function<void()> breaks[] = {
      [&] { ChainBuilder(queue(index)).readable_at(memory_.size().count() - 4, 8).submit(); },
      [&] { ChainBuilder(queue(index)).writable_at(~0ULL - 8, 8).submit(); },
      [&] {
        queue(index).set_descriptor(0, {kVictims, 8, test::kNext, 0});
        queue(index).push_available(0);
      },
      [&] { queue(index).push_available(Balloon::kQueueSize); },
      [&] { queue(index).set_available_index(30000); },
      [&] { ChainBuilder(queue(index)).writable(8).readable_at(kVictims, 8).submit(); },
  };
  make();
  int round = 0;
  for (const auto& break_it : breaks) {
    SCOPED_TRACE(round++);
    driver_.emplace(*balloon_, memory_);
    driver_->start(kAtOnce);
    break_it();
    driver_->kick(index);
    EXPECT_THAT(driver_->host().reset_reason(), HasSubstr("queue " + std::to_string(index)));
    EXPECT_FALSE(balloon_->state().driver_ready);
    // Dead until the reset: no queue is served.
    touch(kVictim, 1);
    ChainBuilder(queue(kInflate)).readable_values<std::uint32_t>({kVictim}).submit();
    driver_->kick(kInflate);
    EXPECT_TRUE(is_patterned(kVictim));

    driver_->reset();
    driver_->start(kAtOnce);
    EXPECT_EQ(send(kInflate, {kVictim}), 0U);
    EXPECT_TRUE(is_zero(kVictim));
    EXPECT_TRUE(balloon_->state().driver_ready);
  }
}

INSTANTIATE_TEST_SUITE_P(EachQueue, BrokenGuest, ::testing::Values(kInflate, kDeflate, kStats, kReporting));

TEST_F(BalloonTest, ABrokenGuestThatHoldsAStatisticsBufferGetsNothingWrittenAtReset) {
  start();
  send_stats(1);
  queue(kInflate).set_available_index(30000);
  driver_->kick(kInflate);
  EXPECT_NE(driver_->host().reset_reason(), "");
  driver_->reset();
  EXPECT_EQ(queue(kStats).used_index(), 0);
}

TEST_F(BalloonTest, RunningOutOfFileDescriptorsIsAnError) {
  for (int left = 0; left < 2; ++left) {
    const test::FewDescriptors few(left);
    const auto made = make_balloon({}, memory_, *loop_);
    ASSERT_FALSE(made) << left;
    EXPECT_THAT(made.error().message, HasSubstr("Too many open files"));
  }
}

TEST_F(BalloonTest, AQueueThatTheDriverDidNotEnableIsNotServed) {
  make();
  std::vector<std::unique_ptr<VirtQueue>> queues(4);
  {
    const std::lock_guard lock(balloon_->mutex());
    balloon_->activate(balloon_->offered_features(), std::move(queues));
  }
  for (std::uint16_t index = 0; index < 4; ++index) driver_->kick(index);
  balloon_->set_stats_interval(10ms);
  pass(50ms);
  EXPECT_FALSE(balloon_->state().driver_ready);
}

TEST_F(BalloonTest, RequestsForAGuestWithoutADriverBlockNobodyAndTheLastTargetCounts) {  // crosvm c4e3eb2ec
  make();
  for (unsigned target = 1; target <= 20'000; ++target)
    ASSERT_TRUE(balloon_->set_target(memory_.size() - target % 64 * balloon::kPageSize));
  int refused = 0;
  for (int i = 0; i < 100; ++i)
    balloon_->request_stats([&](const Result<BalloonStats>& stats) { refused += stats ? 0 : 1; });
  settle();
  EXPECT_EQ(refused, 100);
  ASSERT_TRUE(balloon_->set_target(memory_.size() - 7 * balloon::kPageSize));
  driver_->start(kAtOnce);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kNumPages), 7U);
}

TEST_F(BalloonTest, WhoAsksForItsStateOrSetsItsTargetWaitsNotForABusyDevice) {
  start();
  balloon_->mutex().lock();
  std::thread other([&] {
    EXPECT_EQ(balloon_->state().actual, memory_.size());
    EXPECT_TRUE(balloon_->set_target(memory_.size() - kMiB));
    EXPECT_EQ(balloon_->state().target, memory_.size() - kMiB) << "at once, for who asks";
  });
  other.join();
  balloon_->mutex().unlock();
  EXPECT_TRUE(
      eventually([&] { return driver_->read_config<std::uint32_t>(kNumPages) == 1_MiB / kPageSize; }));
  EXPECT_EQ(balloon_->state().target, memory_.size() - kMiB);
}

TEST_F(BalloonTest, TheDriverReadsTheTargetThatWasSetBeforeThoughTheLoopHasNotComeToIt) {
  start();
  while_busy([&] { EXPECT_TRUE(balloon_->set_target(memory_.size() - kMiB)); });
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kNumPages), 1_MiB / kPageSize);
  loop_->resume();
}

TEST_F(BalloonTest, WhoAskedForStatisticsIsAnsweredThoughTheDeviceEndsFirst) {
  make();
  bool refused = false;
  while_busy([&] { balloon_->request_stats([&](const Result<BalloonStats>& stats) { refused = !stats; }); });
  EXPECT_FALSE(refused);
  driver_.reset();
  balloon_.reset();
  EXPECT_TRUE(refused);
  loop_->resume();
}

TEST_F(BalloonTest, WhoAsksForStatisticsOrFreePagesWaitsNotForABusyDevice) {
  start({.free_page_hinting = true});
  std::atomic<int> answers = 0;
  balloon_->mutex().lock();
  std::thread other([&] {
    balloon_->request_stats([&](const Result<BalloonStats>& stats) { answers += stats ? 1 : 0; });
    balloon_->drop_free_pages([&](const Result<Bytes>& dropped) { answers += dropped ? 0 : 1; });
  });
  other.join();
  EXPECT_EQ(answers, 0);
  balloon_->mutex().unlock();
  send_stats(1);
  ASSERT_TRUE(wait_stats_request());
  send_stats(2);
  EXPECT_TRUE(eventually([&] { return answers == 1; }));
  EXPECT_GT(driver_->read_config<std::uint32_t>(kFreePageHint), 1U) << "the guest is asked";
  driver_->reset();
  EXPECT_TRUE(eventually([&] { return answers == 2; })) << "and its driver's end is told";
}

}  // namespace
}  // namespace balloon::vmm
