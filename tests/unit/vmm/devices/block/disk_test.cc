// SPDX-License-Identifier: Apache-2.0
// Disks of every kind against a model in memory, and against what qemu-img reads of them.
#include "vmm/devices/block/disk.h"

#include <poll.h>
#include <sys/stat.h>

#include <array>
#include <vector>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/disk_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr std::uint64_t kSize = 24_MiB;

struct Kind {
  const char* name;
  const char* format;
  const char* options;
  BlockCache cache;
  BlockEngine engine;
};

class EveryDisk : public ::testing::TestWithParam<Kind> {
 protected:
  BlockConfig config() const {
    return {.path = path_,
            .format = GetParam().format == std::string("raw") ? BlockFormat::raw : BlockFormat::qcow2,
            .cache = GetParam().cache,
            .engine = GetParam().engine};
  }
  Directory directory_;
  std::string path_ = directory_ / "disk.img";
};

TEST_P(EveryDisk, HoldsByteForByteWhatWasWrittenToIt) {
  make_image(std::string("-f ") + GetParam().format + GetParam().options + " " + path_ + " 24M");
  std::vector<std::byte> model(kSize);
  for (int life = 0; life < 2; ++life) {
    TestDisk disk(config());
    ASSERT_EQ(disk.size(), kSize);
    ASSERT_NO_FATAL_FAILURE(exercise(disk, model, 400, 17 + static_cast<std::uint64_t>(life)));
    ASSERT_TRUE(same(disk.read(0, kSize), model));
  }
  if (GetParam().format == std::string("qcow2")) {
    const Said check = qemu_img("check " + path_);
    EXPECT_EQ(check.status, 0) << check.text;
  }
  EXPECT_TRUE(same(converted(path_, GetParam().format), model));
}

TEST(DiskQueue, SmallWritesToNewClustersAreDoneManyAtATime) {
  const Directory directory;
  const std::string path = directory / "disk.qcow2";
  make_image("-f qcow2 " + path + " 24M");
  int done = 0;
  auto disk = *Disk::open({.path = path, .format = BlockFormat::qcow2},
                          [&](const DiskRequest& request) { done += request.result ? 1 : 0; });
  constexpr std::size_t kWrites = 64;
  constexpr std::size_t kWrite = 4096;
  std::vector<std::vector<std::byte>> data;
  std::vector<DiskRequest> requests(kWrites);
  // Some in one cluster, others each in a cluster of its own.
  const auto place = [](std::size_t i) { return i < 32 ? i * kWrite : i * 256_KiB; };
  for (std::size_t i = 0; i < kWrites; ++i) {
    data.push_back(noise(kWrite, i));
    requests[i].kind = DiskRequest::Kind::write;
    requests[i].offset = place(i);
    requests[i].buffers = {{.iov_base = data[i].data(), .iov_len = kWrite}};
    disk->start(requests[i]);
  }
  int jobs = 0;
  while (done < static_cast<int>(kWrites)) {
    TurnBudget budget;
    disk->work(budget);
    disk->submit();
    std::array<pollfd, 2> fds{{{.fd = disk->fds()[0], .events = POLLIN, .revents = 0},
                               {.fd = disk->fds()[1], .events = POLLIN, .revents = 0}}};
    ASSERT_GT(::poll(fds.data(), fds.size(), 20'000), 0);
    jobs += fds[1].revents != 0 ? 1 : 0;
    disk->collect();
  }
  EXPECT_LE(jobs, 8) << "of the worker, for " << kWrites << " writes";
  disk->answer_to({});
  ASSERT_TRUE(disk->settle());
  disk.reset();
  EXPECT_EQ(qemu_img("check " + path).status, 0);
  const auto content = converted(path, "qcow2");
  for (std::size_t i = 0; i < kWrites; ++i)
    EXPECT_TRUE(same(std::span(content).subspan(place(i), kWrite), data[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, EveryDisk,
    ::testing::Values(
        Kind{"Raw", "raw", "", BlockCache::writeback, BlockEngine::io_uring},
        Kind{"RawThreads", "raw", "", BlockCache::writeback, BlockEngine::threads},
        Kind{"RawDirect", "raw", "", BlockCache::none, BlockEngine::io_uring},
        Kind{"RawDirectThreads", "raw", "", BlockCache::none, BlockEngine::threads},
        Kind{"Qcow2", "qcow2", "", BlockCache::writeback, BlockEngine::io_uring},
        Kind{"Qcow2Threads", "qcow2", "", BlockCache::writeback, BlockEngine::threads},
        Kind{"Qcow2Direct", "qcow2", "", BlockCache::none, BlockEngine::io_uring},
        Kind{"Qcow2Version2", "qcow2", " -o compat=0.10", BlockCache::writeback, BlockEngine::io_uring},
        Kind{"Qcow2LazyRefcounts", "qcow2", " -o lazy_refcounts=on", BlockCache::writeback,
             BlockEngine::io_uring},
        Kind{"Qcow2SmallestClusters", "qcow2", " -o cluster_size=512", BlockCache::writeback,
             BlockEngine::io_uring},
        Kind{"Qcow2SmallestClustersDirect", "qcow2", " -o cluster_size=512", BlockCache::none,
             BlockEngine::io_uring},
        Kind{"Qcow2LargestClusters", "qcow2", " -o cluster_size=2M", BlockCache::none, BlockEngine::io_uring},
        Kind{"Qcow2OneBitRefcounts", "qcow2", " -o refcount_bits=1", BlockCache::writeback,
             BlockEngine::io_uring},
        Kind{"Qcow2WideRefcounts", "qcow2", " -o refcount_bits=64,cluster_size=1k", BlockCache::writeback,
             BlockEngine::io_uring},
        Kind{"Qcow2Preallocated", "qcow2", " -o preallocation=metadata", BlockCache::writeback,
             BlockEngine::io_uring}),
    [](const auto& kind) { return kind.param.name; });

class DiskTest : public ::testing::Test {
 protected:
  std::uint64_t allocated() const {
    struct stat status = {};
    ::stat(path_.c_str(), &status);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  Directory directory_;
  std::string path_ = directory_ / "disk.img";
};

TEST_F(DiskTest, ADiscardGivesTheRoomBackToTheHost) {
  for (const std::string format : {"raw", "qcow2"}) {
    make_image("-f " + format + " " + path_ + " 16M");
    {
      TestDisk disk({.path = path_, .format = format == "raw" ? BlockFormat::raw : BlockFormat::qcow2});
      ASSERT_TRUE(disk.write(0, noise(16_MiB, 1)));
      ASSERT_TRUE(disk.flush());
      ASSERT_GE(allocated(), 16_MiB) << format;
      ASSERT_TRUE(disk.discard(1_MiB, 12_MiB));
      ASSERT_TRUE(disk.flush());
      EXPECT_LE(allocated(), 5_MiB) << format;
    }
    std::filesystem::remove(path_);
  }
}

TEST_F(DiskTest, ZeroesWithoutLeaveToUnmapKeepTheirPlace) {
  make_image("-f qcow2 " + path_ + " 16M");
  TestDisk disk({.path = path_, .format = BlockFormat::qcow2});
  ASSERT_TRUE(disk.write(0, noise(4_MiB, 1)));
  ASSERT_TRUE(disk.zero(0, 4_MiB, false));
  ASSERT_TRUE(disk.flush());
  EXPECT_GE(allocated(), 4_MiB);
  EXPECT_TRUE(same(disk.read(0, 4_MiB), std::vector<std::byte>(4_MiB)));
  // And parts written to the kept place leave zeros around them.
  const auto sector = noise(512, 5);
  ASSERT_TRUE(disk.write(1_MiB + 1024, sector));
  std::vector<std::byte> expected(65536);
  std::ranges::copy(sector, expected.begin() + 1024);
  EXPECT_TRUE(same(disk.read(1_MiB, 65536), expected));
}

TEST_F(DiskTest, FreedClustersAreUsedAgain) {
  make_image("-f qcow2 " + path_ + " 64M");
  TestDisk disk({.path = path_, .format = BlockFormat::qcow2});
  for (int round = 0; round < 8; ++round) {
    ASSERT_TRUE(disk.write(0, noise(8_MiB, static_cast<std::uint64_t>(round))));
    ASSERT_TRUE(disk.flush());
    ASSERT_TRUE(disk.discard(0, 8_MiB));
    ASSERT_TRUE(disk.flush());
  }
  EXPECT_LE(std::filesystem::file_size(path_), 10_MiB);
}

TEST_F(DiskTest, ManyRequestsAtOnceAreAllDone) {
  for (const BlockEngine engine : {BlockEngine::io_uring, BlockEngine::threads}) {
    make_image("-f raw " + path_ + " 16M");
    const auto content = noise(16_MiB, 3);
    write_file(path_, content);
    int done = 0;
    auto disk = Disk::open({.path = path_, .cache = BlockCache::none, .engine = engine},
                           [&](DiskRequest& request) { done += request.result ? 1 : 0; });
    ASSERT_TRUE(disk);
    constexpr int kRequests = 2000;  // more than the kernel is given at once
    std::vector<DiskRequest> requests(kRequests);
    AlignedBuffer buffers(kRequests * 4096);
    for (std::size_t i = 0; i < kRequests; ++i) {
      requests[i] = {.kind = DiskRequest::Kind::read,
                     .offset = i * 4096,
                     .buffers = {{.iov_base = buffers.bytes().data() + i * 4096, .iov_len = 4096}}};
      (*disk)->start(requests[i]);
    }
    (*disk)->submit();
    (*disk)->drain();
    EXPECT_EQ(done, kRequests);
    EXPECT_TRUE(same(buffers.bytes(), std::span(content).first(kRequests * 4096)));
  }
}

TEST_F(DiskTest, BuffersAndPlacesThatDirectIoCannotTakeGoThroughABounceBuffer) {
  make_image("-f raw " + path_ + " 1M");
  const auto content = noise(1_MiB, 8);
  write_file(path_, content);
  TestDisk disk({.path = path_, .cache = BlockCache::none});
  std::vector<std::byte> memory(8192 + 1);
  const auto odd = std::span(memory).subspan(1, 1536);  // at an odd address
  ASSERT_TRUE(disk.read(512, odd));
  EXPECT_TRUE(same(odd, std::span(content).subspan(512, 1536)));
  std::ranges::copy(noise(1536, 9), odd.begin());
  DiskRequest request{
      .kind = DiskRequest::Kind::write,
      .offset = 3 * 512,
      .buffers = {{.iov_base = odd.data(), .iov_len = 700}, {.iov_base = odd.data() + 700, .iov_len = 836}}};
  ASSERT_TRUE(disk.run(request));
  EXPECT_EQ(request.transferred, 1536U);
  auto expected = content;
  std::ranges::copy(odd, expected.begin() + 3 * 512);
  EXPECT_TRUE(same(disk.read(0, 1_MiB), expected)) << "the sectors around it are as they were";
}

TEST_F(DiskTest, ARequestThatWasCancelledCanBeStartedAgain) {
  const auto content = noise(8192, 4);
  write_file(path_, content);
  int done = 0;
  auto disk = *Disk::open({.path = path_}, [&](const DiskRequest&) { ++done; });
  std::vector<std::byte> bytes(4096);
  DiskRequest request{.kind = DiskRequest::Kind::read,
                      .offset = 4096,
                      .buffers = {{.iov_base = bytes.data(), .iov_len = bytes.size()}}};
  disk->start(request);
  disk->cancel([](const DiskRequest&) { return true; });
  EXPECT_EQ(done, 1);
  EXPECT_TRUE(request.cancelled);
  disk->start(request);
  disk->drain();
  EXPECT_EQ(done, 2);
  EXPECT_FALSE(request.cancelled);
  EXPECT_TRUE(request.result);
  EXPECT_EQ(request.transferred, 4096U);
  EXPECT_TRUE(same(bytes, std::span(content).subspan(4096)));
}

TEST_F(DiskTest,
       AWriteOfPartsOfABlockWaitsForThoseBeforeItInTheSameBlock) {  // it reads the rest of the block
  write_file(path_, std::vector<std::byte>(64_KiB));
  TestDisk disk({.path = path_, .cache = BlockCache::none});
  AlignedBuffer whole(64_KiB);
  for (std::uint64_t round = 0; round < 50; ++round) {
    auto expected = noise(64_KiB, 2 * round);
    const auto part = noise(200, 2 * round + 1);
    std::ranges::copy(expected, whole.bytes().begin());
    auto other = part;
    DiskRequest first{.kind = DiskRequest::Kind::write,
                      .offset = 0,
                      .buffers = {{.iov_base = whole.bytes().data(), .iov_len = whole.bytes().size()}}};
    DiskRequest second{.kind = DiskRequest::Kind::write,
                       .offset = 40'100,
                       .buffers = {{.iov_base = other.data(), .iov_len = other.size()}}};
    disk.disk().start(first);
    disk.disk().start(second);
    disk.disk().drain();
    ASSERT_TRUE(first.result && second.result);
    std::ranges::copy(part, expected.begin() + 40'100);
    ASSERT_TRUE(same(disk.read(0, 64_KiB), expected)) << "round " << round;
  }
}

TEST_F(DiskTest, WhatIsDoneMakesRoomForMore) {  // 32 MiB are in flight at most
  const auto content = noise(1_MiB, 5);
  write_file(path_, content);
  TestDisk disk({.path = path_});
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(same(disk.read(0, 1_MiB), content)) << i;
}

TEST_F(DiskTest, AnIoErrorIsToldAndTheNextRequestWorks) {
  make_image("-f raw " + path_ + " 1M");
  TestDisk disk({.path = path_});
  std::filesystem::resize_file(path_, 4096);
  std::vector<std::byte> sector(512);
  const auto lost = disk.read(8192, sector);
  ASSERT_FALSE(lost);
  EXPECT_THAT(lost.error().message, HasSubstr("at byte 8192: the image has shrunk"));
  EXPECT_TRUE(disk.read(0, sector));
}

}  // namespace
}  // namespace balloon::vmm
