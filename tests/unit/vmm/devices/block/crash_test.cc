// SPDX-License-Identifier: Apache-2.0
// A VMM that is killed in the midst of writing: what it had flushed is there, and the image is sound.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/disk_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;

constexpr std::uint64_t kSize = 32_MiB;
constexpr std::size_t kBlock = 4096;
constexpr std::size_t kBlocks = kSize / kBlock;

/// What the writer promises, in memory that outlives it. Each write of a block carries a number of its own.
struct Promise {
  std::atomic<std::uint64_t> writes;    ///< numbers given out
  std::atomic<std::uint64_t> flushed;   ///< the last number before the last flush that was done
  std::uint64_t last[kBlocks];          ///< of each block: the number of its last write that was begun
  std::uint64_t flushed_last[kBlocks];  ///< and of the one before the last flush that was done
};

std::vector<std::byte> numbered(std::uint64_t number) {
  std::vector<std::byte> block(kBlock);
  for (std::size_t i = 0; i < kBlock; i += sizeof number)
    std::memcpy(block.data() + i, &number, sizeof number);
  return block;
}

[[noreturn]] void write_until_killed(const BlockConfig& config, Promise& promise, std::uint64_t seed) {
  TestDisk disk(config);
  std::mt19937_64 random(seed);
  std::vector<std::size_t> since;
  while (true) {
    const std::size_t block = random() % kBlocks;
    const std::uint64_t number = ++promise.writes;
    promise.last[block] = number;
    if (random() % 16 == 0) {
      // Give room back, so that clusters are freed and used again; then write, so that it is known what is
      // there.
      const std::size_t cluster = block / 16 * 16;
      for (std::size_t i = cluster; i < cluster + 16; ++i) promise.last[i] = number;
      if (!disk.discard(cluster * kBlock, 16 * kBlock)) ::_exit(2);
      for (std::size_t i = cluster; i < cluster + 16; ++i) {
        if (!disk.write(i * kBlock, numbered(number))) ::_exit(2);
        since.push_back(i);
      }
    }
    if (!disk.write(block * kBlock, numbered(number))) ::_exit(2);
    since.push_back(block);
    if (random() % 64 == 0) {
      if (!disk.flush()) ::_exit(3);
      for (const std::size_t i : since) promise.flushed_last[i] = promise.last[i];
      since.clear();
      promise.flushed = number;
    }
  }
}

class CrashTest : public ::testing::TestWithParam<const char*> {};

TEST_P(CrashTest, KilledInMidWriteNothingFlushedIsLostAndTheImageIsSound) {
  const Directory directory;
  const std::string path = directory / "disk.qcow2";
  make_image("-f qcow2 " + std::string(GetParam()) + " " + path + " 32M");
  const BlockConfig config{.path = path, .format = BlockFormat::qcow2};
  void* shared = ::mmap(nullptr, sizeof(Promise), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto& promise = *new (shared) Promise{};
  std::mt19937_64 random(99);
  for (std::uint64_t life = 0; life < 6; ++life) {
    const std::uint64_t before = promise.flushed;
    const pid_t writer = ::fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) write_until_killed(config, promise, life);
    for (int i = 0; i < 3000 && promise.flushed == before; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
    ::kill(writer, SIGKILL);
    int status = 0;
    ::waitpid(writer, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed: " << status;
    ASSERT_GT(promise.flushed, before) << "nothing was flushed in 30 s";

    // 3: clusters that are counted and not used; lost room, no damage.
    Said check = qemu_img("check " + path);
    // The kernel ends the killed writer's io_uring work before it lets go of the image.
    for (int i = 0; i < 100 && check.text.contains("Failed to get"); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      check = qemu_img("check " + path);
    }
    EXPECT_TRUE(check.status == 0 || check.status == 3) << check.text;
    const auto content = converted(path, "qcow2");
    for (std::size_t i = 0; i < kBlocks; ++i) {
      std::uint64_t there = 0;
      std::memcpy(&there, content.data() + i * kBlock, sizeof there);
      const bool discarded = there == 0 && promise.last[i] > promise.flushed_last[i];
      ASSERT_TRUE(there >= promise.flushed_last[i] || discarded)
          << "block " << i << " holds write " << there << ", flushed was " << promise.flushed_last[i];
      ASSERT_LE(there, promise.last[i]) << "block " << i;
      ASSERT_TRUE(same(std::span(content).subspan(i * kBlock, kBlock), numbered(there)))
          << "block " << i << " is torn";
      // What the next life starts from.
      promise.last[i] = promise.flushed_last[i] = there;
    }
  }
  ::munmap(shared, sizeof(Promise));
}

INSTANTIATE_TEST_SUITE_P(Images, CrashTest, ::testing::Values("", "-o cluster_size=4k", "-o compat=0.10"),
                         [](const auto& kind) { return "Kind" + std::to_string(kind.index); });

}  // namespace
}  // namespace balloon::vmm
