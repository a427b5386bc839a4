// SPDX-License-Identifier: Apache-2.0
// The costliest requests there are, many at once: others get the device's mutex and its loop meanwhile, and
// they cost the host no memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/block_fixture.h"

#ifdef __SANITIZE_ADDRESS__
// Of the sanitizer's allocator_interface.h, which GCC does not install.
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();
#endif

namespace balloon::vmm::test {
namespace {

constexpr std::uint64_t kMemoryGrowth = 16_MiB;
constexpr std::uint32_t kBuffer = Block::kSizeMax;
constexpr std::uint32_t kBuffers = Block::kSegMax;
constexpr std::uint64_t kLargest = std::uint64_t{kBuffer} * kBuffers;

/// Of this process. The address sanitizer keeps what was freed for a while: there it is what is allocated.
std::uint64_t memory_in_use() {
#ifdef __SANITIZE_ADDRESS__
  return __sanitizer_get_current_allocated_bytes();
#else
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::uint64_t>(::getpagesize());
#endif
}

class BlockTurnsTest : public BlockTest {
 protected:
  using Clock = std::chrono::steady_clock;

  /// Another device on the loop, and somebody who wants the mutex: how often each had its turn until `done`.
  struct Turns {
    int mutex = 0;
    int loop = 0;
    std::chrono::milliseconds longest{0};  ///< that one of them waited
  };
  template <typename Condition>
  Turns turns_until(Condition done) {
    Turns turns;
    std::atomic<int> calls = 0;
    const UniqueFd event = *loop_->watch_event([&] { ++calls; });
    const auto give_up = Clock::now() + std::chrono::seconds(120);
    while (!done()) {
      const auto start = Clock::now();
      if (start > give_up) ADD_FAILURE() << "not done within two minutes";
      if (start > give_up) break;
      {
        const std::lock_guard lock(block_->mutex());
      }
      ++turns.mutex;
      const std::uint64_t one = 1;
      EXPECT_EQ(::write(event.get(), &one, sizeof one), ssize_t{sizeof one});
      while (calls == turns.loop) std::this_thread::sleep_for(std::chrono::microseconds(100));
      ++turns.loop;
      turns.longest = std::max(turns.longest,
                               std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start));
    }
    loop_->unwatch(event.get());
    return turns;
  }
  void expect_many(const Turns& turns) const {
    EXPECT_GE(turns.mutex, 20) << "others got the mutex; one of them waited " << turns.longest.count()
                               << " ms";
    EXPECT_GE(turns.loop, 20) << "others got the loop";
  }
  /// `count` times the largest transfer there is; all its buffers are the same memory. Larger still: of
  /// buffers of another `size`.
  void submit_largest(std::uint32_t type, int count, std::uint32_t size = kBuffer) {
    const GuestAddress data = queue().allocate(size, 4096);
    memory_.write(data, pattern(size, 5));
    status_ = status_byte();
    for (int i = 0; i < count; ++i) {
      ChainBuilder builder(queue());
      builder.readable(header(type, 0));
      for (std::uint32_t buffer = 0; buffer < kBuffers; ++buffer)
        type == kIn ? builder.writable_at(data, size) : builder.readable_at(data, size);
      builder.writable_at(status_, 1).submit_indirect();
    }
  }
  std::uint8_t status() const { return *memory_.read<std::uint8_t>(status_); }
  bool answered(int count) { return queue().used_index() == count; }
  /// A qcow2 image of 32 MiB in which no cluster lies behind its neighbour.
  BlockConfig fragmented() const {
    const BlockConfig config{.path = path_, .format = BlockFormat::qcow2};
    make_image("-f qcow2 -o cluster_size=4k " + path_ + " 32M");
    TestDisk disk(config);
    const auto cluster = pattern(4096, 1);
    for (std::uint64_t first : {4096, 0}) {
      for (std::uint64_t at = first; at < 32_MiB; at += 8192) {
        if (!disk.write(at, cluster)) throw std::runtime_error("writing the image");
      }
    }
    return config;
  }
  GuestAddress status_ = 0;
};

TEST_F(BlockTurnsTest, ReadsOfAFragmentedImageLetOthersGoOnAndCostNoMemory) {
  start(fragmented());
  submit_largest(kIn, 24);
  const std::uint64_t before = memory_in_use();
  std::uint64_t most = before;
  driver_->kick(0);
  const Turns turns = turns_until([&] {
    most = std::max(most, memory_in_use());
    return answered(24);
  });
  expect_many(turns);
  EXPECT_EQ(status(), kOk);
  EXPECT_LT(most - before, kMemoryGrowth);
}

TEST_F(BlockTurnsTest, WritesToNewClustersLetOthersGoOn) {
  make_image("-f qcow2 -o cluster_size=512 " + path_ + " 32M");
  start({.path = path_, .format = BlockFormat::qcow2});
  submit_largest(kOut, 4);
  const auto begin = Clock::now();
  driver_->kick(0);  // a turn, on this thread
  const auto turn = Clock::now() - begin;
  const Turns turns = turns_until([&] { return answered(4); });
  expect_many(turns);
  EXPECT_LT(turn, (Clock::now() - begin) / 2);
  EXPECT_LT(turns.longest, (Clock::now() - begin) / 2) << "nobody waits for the first, which takes longest";
  EXPECT_EQ(status(), kOk);
}

TEST_F(BlockTurnsTest, DiscardsOfTheSmallestClustersLetOthersGoOn) {
  make_image("-f qcow2 -o cluster_size=512,preallocation=metadata " + path_ + " 32M");
  start({.path = path_, .format = BlockFormat::qcow2});
  status_ = status_byte();
  constexpr std::uint32_t kAll = 32_MiB / kSectorSize;
  for (int i = 0; i < 2; ++i) {
    ChainBuilder builder(queue());
    builder.readable(header(kDiscard, 0)).readable_values(std::vector<BlockSegment>{{0, kAll, 0}});
    builder.writable_at(status_, 1).submit();
  }
  driver_->kick(0);
  expect_many(turns_until([&] { return answered(2); }));
  EXPECT_EQ(status(), kOk);
}

TEST_F(BlockTurnsTest, ZerosThatTheFilesystemCannotMakeLetOthersGoOn) {
  const std::string path = "/dev/shm/balloon-zeros-" + std::to_string(::getpid());  // no FALLOC_FL_ZERO_RANGE
  write_file(path, std::vector<std::byte>(32_MiB));
  start({.path = path, .format = BlockFormat::raw});
  std::filesystem::remove(path);
  status_ = status_byte();
  ChainBuilder builder(queue());
  builder.readable(header(kWriteZeroes, 0));
  builder.readable_values(
      std::vector<BlockSegment>(kMaxSegments, {0, static_cast<std::uint32_t>(32_MiB / kSectorSize), 0}));
  builder.writable_at(status_, 1).submit();
  driver_->kick(0);
  expect_many(turns_until([&] { return answered(1); }));
  EXPECT_EQ(status(), kOk);
}

TEST_F(BlockTurnsTest, ARequestIsNoLargerThanWhatTheDriverWasTold) {
  std::filesystem::resize_file(path_, 64_MiB);
  start();
  EXPECT_NE(block_->offered_features() & Block::kFeatureSizeMax, 0U);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(8), kBuffer) << "size_max";
  submit_largest(kIn, 1);
  ASSERT_TRUE(driver_->kick_and_wait(0));
  EXPECT_EQ(status(), kOk) << "of " << kLargest << " bytes";
  submit_largest(kIn, 1, kBuffer + 8192);  // 33.7 MiB
  ASSERT_TRUE(driver_->kick_and_wait(0));
  EXPECT_EQ(status(), kIoError);
}

TEST_F(BlockTurnsTest, AResetDoesNotWaitForWhatHasNotBegun) {
  std::filesystem::resize_file(path_, 64_MiB);
  start();
  submit_largest(kOut, 60);  // 1.9 GiB
  driver_->kick(0);
  const auto begin = Clock::now();
  driver_->reset();
  EXPECT_LT(Clock::now() - begin, std::chrono::milliseconds(500));
  driver_->start();
  EXPECT_EQ(request(kIn, 0, kSectorSize).status, kOk);
}

TEST_F(BlockTurnsTest, RequestsBeyondWhatIsTakenAtOnceAreAllAnswered) {
  start({.path = path_, .queues = 4});
  status_ = status_byte();
  constexpr int kEach = 200;
  for (std::uint16_t index = 0; index < 4; ++index) {
    const GuestAddress data = driver_->queue(index).allocate(512);
    const GuestAddress first = driver_->queue(index).allocate(header(kIn, 0));
    for (int i = 0; i < kEach; ++i) {
      ChainBuilder builder(driver_->queue(index));
      builder.readable_at(first, 16).writable_at(data, 512).writable_at(status_, 1).submit_indirect();
    }
  }
  for (std::uint16_t index = 0; index < 4; ++index) driver_->kick(index);
  for (std::uint16_t index = 0; index < 4; ++index) {
    EXPECT_TRUE(eventually([&] { return driver_->queue(index).used_index() == kEach; })) << "queue " << index;
  }
}

}  // namespace
}  // namespace balloon::vmm::test
