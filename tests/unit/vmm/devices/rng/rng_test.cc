// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/rng/rng.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {
namespace {

class RngTest : public testing::Test {
 protected:
  void start(Bytes rate = {}) {
    rng = std::move(*Rng::create({.enabled = true, .bytes_per_second = rate}, *loop));
    driver = std::make_unique<FakeDriver>(*rng, memory);
    driver->start();
  }
  ~RngTest() override { driver.reset(); }

  GuestMemory memory = make_memory();
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<Rng> rng;
  std::unique_ptr<FakeDriver> driver;
};

TEST_F(RngTest, ABufferIsFilledWithBytesThatDiffer) {
  start();
  const GuestAddress at = driver->queue(0).allocate(512);
  ChainBuilder(driver->queue(0)).writable_at(at, 512).submit();
  const auto used = driver->kick_and_wait(0);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 512U);
  const auto bytes = memory.at(at, 512);
  EXPECT_GT(std::set<std::byte>(bytes->begin(), bytes->end()).size(), 100U);
  EXPECT_EQ(driver->host().queue_interrupts(0), 1);
}

TEST_F(RngTest, AQueueThatTheDriverTookBackIsLeftAloneUntilItComesAgain) {  // RING_RESET
  start();
  driver->reset_queue(0);
  const GuestAddress at = driver->queue(0).allocate(64);
  ChainBuilder(driver->queue(0)).writable_at(at, 64).submit();
  driver->kick(0);
  EXPECT_EQ(driver->queue(0).used_index(), 0);
  EXPECT_EQ(memory.read<std::uint64_t>(at), 0U);
  driver->restart_queue(0);
  ChainBuilder(driver->queue(0)).writable_at(at, 64).submit();
  EXPECT_EQ(driver->kick_and_wait(0)->length, 64U);
}

TEST_F(RngTest, AHugeBufferIsFilledInPart) {
  start();
  ChainBuilder(driver->queue(0)).writable(64 * 1024).submit();
  EXPECT_EQ(driver->kick_and_wait(0)->length, Rng::kMostAtOnce);
}

TEST_F(RngTest, ABufferThatIsOnlyReadableIsReturnedEmpty) {
  start();
  ChainBuilder(driver->queue(0)).readable_at(driver->queue(0).allocate(16), 16).submit();
  EXPECT_EQ(driver->kick_and_wait(0)->length, 0U);
}

TEST_F(RngTest, ABufferOutsideRamBreaksTheDeviceNotTheProcess) {
  start();
  ChainBuilder(driver->queue(0)).writable_at(1ULL << 40, 64).submit();
  driver->kick(0);
  EXPECT_TRUE(eventually([&] { return !driver->host().reset_reason().empty(); }));
}

TEST_F(RngTest, TheRateIsKept) {
  constexpr Bytes kRate = 64 * kKiB;
  start(kRate);
  const auto begin = std::chrono::steady_clock::now();
  Bytes got{};
  while (got < kRate / 2) {
    ChainBuilder(driver->queue(0)).writable_at(FakeDriver::kQueuesStart + FakeQueue::kRings, 4096).submit();
    const auto used = driver->kick_and_wait(0);
    ASSERT_TRUE(used);
    got += Bytes{used->length};
  }
  // Half a second's worth, of which a tenth was there at once.
  EXPECT_GT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(250));
  EXPECT_GT(rng->counters().waits, 0U);
}

TEST_F(RngTest, AResetWhileItWaitsIsQuiet) {
  start(Bytes{1});
  for (int i = 0; i < 4; ++i) ChainBuilder(driver->queue(0)).writable(4096).submit();
  driver->kick(0);
  driver->reset();
  driver->start();
  EXPECT_EQ(driver->queue(0).used_index(), 0);
}

}  // namespace
}  // namespace balloon::vmm::test
