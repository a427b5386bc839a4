// SPDX-License-Identifier: Apache-2.0
// How a block device serves: cache modes, several queues, limits, resets.
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "tests/unit/vmm/devices/block/block_fixture.h"
#include "tests/unit/vmm/manual_clock.h"

namespace balloon::vmm::test {
namespace {

TEST_F(BlockTest, AWriteThroughDiskOffersNoFlushBecauseItNeedsNone) {
  start({.path = path_, .cache = BlockCache::writethrough});
  EXPECT_EQ(block_->offered_features() & (1U << 9 | 1U << 11), 0U);
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 0U) << "not write-back";
  driver_->write_config<std::uint8_t>(32, 1);
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 0U) << "and the guest cannot change that";
  EXPECT_EQ(write(0, pattern(kSectorSize, 9)).status, kOk);
  EXPECT_EQ(request(kFlush, 0, 0).status, kOk) << "asked all the same";
}

TEST_F(BlockTest, TheGuestMayChooseWriteThroughAndAResetForgetsIt) {
  start();
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 1U);
  driver_->write_config<std::uint8_t>(32, 0);
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 0U);
  EXPECT_EQ(write(0, pattern(kSectorSize, 9)).status, kOk);
  driver_->reset();
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 1U);
}

TEST_F(BlockTest, TheChoiceOfWriteThroughIsOneByteHoweverWideTheWrite) {
  start();
  driver_->write_config<std::uint32_t>(28, 0);
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 1U) << "the bytes before it";
  driver_->write_config<std::uint32_t>(30, 0xff00ffff);
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 0U);
}

TEST_F(BlockTest, WhereTheGuestChoseWriteThroughAQcow2HoldsItsTablesBeforeItIsTold) {
  std::filesystem::remove(path_);
  test::make_image("-f qcow2 " + path_ + " 1M");
  start({.path = path_, .format = BlockFormat::qcow2});
  driver_->write_config<std::uint8_t>(32, 0);
  const auto data = pattern(4096, 9);
  ASSERT_EQ(write(64, data).status, kOk);
  const auto content = test::converted(path_, "qcow2", "-U");
  EXPECT_TRUE(std::equal(data.begin(), data.end(), content.begin() + 64 * 512));
}

TEST_F(BlockTest, WhatTheDriverChoseBeforeItIsReadyHolds) {
  start();
  driver_->reset();
  driver_->write_config<std::uint8_t>(32, 0);
  driver_->start();
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 0U);
}

TEST_F(BlockTest, ADriverThatCannotFlushGetsWriteThrough) {
  start({.path = path_}, ~(1ULL << 9));
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 0U);
}

TEST_F(BlockTest, AWriteThroughQcow2HoldsItsTablesBeforeTheGuestIsTold) {
  std::filesystem::remove(path_);
  test::make_image("-f qcow2 " + path_ + " 1M");
  start({.path = path_, .format = BlockFormat::qcow2, .cache = BlockCache::writethrough});
  const auto data = pattern(4096, 9);
  ASSERT_EQ(write(64, data).status, kOk);
  // A second reader, beside the lock: what a crash would leave.
  const auto content = test::converted(path_, "qcow2", "-U");
  EXPECT_TRUE(std::equal(data.begin(), data.end(), content.begin() + 64 * 512));
}

// Several queues, limits

TEST_F(BlockTest, EveryQueueIsServed) {
  start({.path = path_, .queues = 4});
  EXPECT_NE(block_->offered_features() & 1U << 12, 0U);
  ASSERT_EQ(block_->queue_sizes().size(), 4U);
  for (std::uint16_t i = 0; i < 4; ++i) {
    const GuestAddress status = driver_->queue(i).allocate(1);
    memory_.write(status, kUntouched);
    ChainBuilder(driver_->queue(i)).readable(header(kIn, i)).writable(512).writable_at(status, 1).submit();
    ASSERT_TRUE(driver_->kick_and_wait(i)) << i;
    EXPECT_EQ(memory_.read<std::uint8_t>(status), kOk);
    EXPECT_EQ(driver_->host().queue_interrupts(i), 1);
  }
}

TEST_F(BlockTest, ARateLimitHoldsRequestsBackAndThenLetsThemGo) {
  start({.path = path_, .requests_per_second = 100, .burst_requests = 10});
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < 40; ++i) {
    ChainBuilder(queue()).readable(header(kIn, i % kSectors)).writable(512).writable(1).submit();
  }
  driver_->kick(0);
  EXPECT_TRUE(test::eventually([&] { return queue().used_index() == 40; }));
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, std::chrono::milliseconds(250)) << "10 at once, 30 at 100 a second";
  EXPECT_GT(block_->counters().throttled, 0U);
}

TEST_F(BlockTest, ALimitOfRequestsHoldsForDiscardsAndAWaitIsCountedOnce) {
  ManualClock clock;
  loop_ = *EventLoop::create("test", clock);
  start({.path = path_, .requests_per_second = 1, .burst_requests = 1});
  EXPECT_EQ(clear(kDiscard, {{48, 8, 0}}).status, kOk);
  ChainBuilder(queue()).readable(header(kIn, 0)).writable(512).writable(1).submit();
  for (int i = 0; i < 3; ++i) driver_->kick(0);
  EXPECT_EQ(block_->counters().throttled, 1U);
  EXPECT_EQ(queue().used_index(), 1);
  clock.advance(std::chrono::seconds(2));
  EXPECT_TRUE(test::eventually([&] { return queue().used_index() == 2; }));
  driver_.reset();
  block_.reset();
  loop_.reset();
}

TEST_F(BlockTest, AByteLimitCountsBytes) {
  start({.path = path_, .bytes_per_second = 64 * kKiB, .burst_bytes = Bytes{4096}});
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 6; ++i) ASSERT_EQ(request(kIn, 0, 8 * 512).status, kOk);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(200));
}

TEST_F(BlockTest, AResetWhileRequestsWaitForTheLimitLeavesNothingBehind) {
  start({.path = path_, .requests_per_second = 20, .burst_requests = 1});
  for (int i = 0; i < 10; ++i)
    ChainBuilder(queue()).readable(header(kIn, 0)).writable(512).writable(1).submit();
  driver_->kick(0);
  driver_->reset();
  driver_->start();
  EXPECT_EQ(request(kIn, 0, kSectorSize).status, kOk);
}

TEST_F(BlockTest, AResetWaitsForWhatIsUnderWayAndNothingReachesTheGuestAfterIt) {  // CVE-2026-45782
  start({.path = path_, .cache = BlockCache::none});
  for (int round = 0; round < 50; ++round) {
    std::vector<GuestAddress> data;
    for (int i = 0; i < 20; ++i) {
      data.push_back(queue().allocate(4096, 4096));  // as direct I/O needs it
      ChainBuilder(queue()).readable(header(kIn, 0)).writable_at(data.back(), 4096).writable(1).submit();
    }
    driver_->kick(0);
    driver_->reset();
    const int interrupts = driver_->host().queue_interrupts(0);
    for (const GuestAddress address : data) memory_.write(address, std::uint64_t{0x1122334455667788});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (const GuestAddress address : data) {
      ASSERT_EQ(memory_.read<std::uint64_t>(address), 0x1122334455667788U) << "guest memory was written";
    }
    ASSERT_EQ(driver_->host().queue_interrupts(0), interrupts);
    driver_->start();
  }
}

TEST_F(BlockTest, AQueueThatTheDriverTakesBackIsDoneWithAndTheOthersGoOn) {  // RING_RESET
  start({.path = path_, .cache = BlockCache::none, .queues = 2});
  for (int round = 0; round < 20; ++round) {
    std::vector<GuestAddress> data;
    for (int i = 0; i < 20; ++i) {
      data.push_back(queue().allocate(4096, 4096));
      ChainBuilder(queue()).readable(header(kIn, 0)).writable_at(data.back(), 4096).writable(1).submit();
    }
    driver_->kick(0);
    driver_->reset_queue(0);
    const int interrupts = driver_->host().queue_interrupts(0);
    for (const GuestAddress address : data) memory_.write(address, std::uint64_t{0x1122334455667788});
    ChainBuilder other(driver_->queue(1));
    other.readable(header(kIn, 1)).writable(512).writable(1).submit();
    ASSERT_TRUE(driver_->kick_and_wait(1));
    EXPECT_EQ(memory_.read<std::uint8_t>(other.address(2)), kOk);
    for (const GuestAddress address : data) {
      ASSERT_EQ(memory_.read<std::uint64_t>(address), 0x1122334455667788U) << "guest memory was written";
    }
    ASSERT_EQ(driver_->host().queue_interrupts(0), interrupts);
    driver_->restart_queue(0);
    EXPECT_EQ(request(kIn, 0, kSectorSize).status, kOk);
  }
}

TEST_F(BlockTest, AQueueThatTheDriverTakesBackCostsTheOthersNothing) {
  std::filesystem::remove(path_);
  test::make_image("-f qcow2 " + path_ + " 8M");
  start({.path = path_, .format = BlockFormat::qcow2, .queues = 2});
  for (std::uint64_t cluster = 0; cluster < 20; ++cluster) {
    ChainBuilder other(driver_->queue(1));
    other.readable(header(kOut, cluster * 128)).readable(pattern(512, 1)).writable(1).submit();
  }
  driver_->kick(1);
  driver_->reset_queue(0);
  EXPECT_TRUE(test::eventually([&] { return driver_->queue(1).used_index() == 20; }));
}

TEST_F(BlockTest, SettlingWaitsForWhatIsUnderWayAndAnswersIt) {
  start({.path = path_, .cache = BlockCache::none});
  for (int i = 0; i < 20; ++i) {
    const GuestAddress data = queue().allocate(4096, 4096);
    ChainBuilder(queue()).readable(header(kIn, 0)).writable_at(data, 4096).writable(1).submit();
  }
  const std::lock_guard lock(block_->mutex());
  block_->process_queue(0);
  block_->settle();
  EXPECT_EQ(queue().used_index(), 20);
}

TEST_F(BlockTest, WithoutIoUringThreadsDoTheWork) {
  start({.path = path_, .engine = BlockEngine::threads});
  EXPECT_EQ(block_->engine(), "threads");
  std::vector<std::byte> data;
  EXPECT_EQ(request(kIn, 5, 3 * kSectorSize, &data).status, kOk);
  EXPECT_EQ(data, image(5, 3 * kSectorSize));
  EXPECT_EQ(write(5, pattern(512, 1)).status, kOk);
  EXPECT_EQ(request(kFlush, 0, 0).status, kOk);
}

}  // namespace
}  // namespace balloon::vmm::test
