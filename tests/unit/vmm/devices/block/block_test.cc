#include "vmm/devices/block/block.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/vmm/devices/block/disk_fixture.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm {
namespace {

using test::ChainBuilder;
using test::Directory;
using test::FakeDriver;
using test::make_memory;
using ::testing::HasSubstr;

constexpr std::uint32_t kIn = 0;
constexpr std::uint32_t kOut = 1;
constexpr std::uint32_t kFlush = 4;
constexpr std::uint32_t kGetId = 8;
constexpr std::uint32_t kDiscard = 11;
constexpr std::uint32_t kWriteZeroes = 13;

constexpr std::uint8_t kOk = 0;
constexpr std::uint8_t kIoError = 1;
constexpr std::uint8_t kUnsupported = 2;
constexpr std::uint8_t kUntouched = 0xff;

constexpr std::uint64_t kSectors = 64;

std::vector<std::byte> pattern(std::size_t size, int seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed) + i / 512);
  return bytes;
}

class BlockTest : public ::testing::Test {
 protected:
  BlockTest() { write_image(pattern(kSectors * kSectorSize, 3)); }
  ~BlockTest() override {
    driver_.reset();
    block_.reset();
  }

  void write_image(const std::vector<std::byte>& content) {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  }
  std::vector<std::byte> image(std::uint64_t sector, std::size_t size) const {
    std::vector<std::byte> content(size);
    std::ifstream file(path_, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(sector * kSectorSize));
    file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(size));
    return content;
  }
  void start(bool read_only = false, std::string serial = "serial-1") {
    start({.path = path_, .read_only = read_only, .serial = std::move(serial)});
  }
  void start(const BlockConfig& config, std::uint64_t features = ~0ULL) {
    auto block = Block::create(config, *loop_);
    if (!block) throw std::runtime_error(block.error().message);
    block_ = std::move(*block);
    driver_.emplace(*block_, memory_);
    driver_->start(features);
  }

  std::vector<std::byte> header(std::uint32_t type, std::uint64_t sector) {
    std::vector<std::byte> bytes(16);
    std::memcpy(bytes.data(), &type, sizeof type);
    std::memcpy(bytes.data() + 8, &sector, sizeof sector);
    return bytes;
  }
  GuestAddress status_byte() {
    const GuestAddress address = queue().allocate(1);
    memory_.write(address, kUntouched);
    return address;
  }
  struct Answer {
    std::uint8_t status;
    std::uint32_t written;
  };
  Answer finish(ChainBuilder& builder, GuestAddress status, bool indirect = false) {
    if (indirect) {
      builder.submit_indirect();
    } else {
      builder.submit();
    }
    const auto used = driver_->kick_and_wait(0);
    if (!used) throw std::runtime_error("the request did not come back: " + driver_->host().reset_reason());
    return {*memory_.read<std::uint8_t>(status), used->length};
  }
  Answer write(std::uint64_t sector, const std::vector<std::byte>& data) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    builder.readable(header(kOut, sector)).readable(data).writable_at(status, 1);
    return finish(builder, status);
  }
  /// A request without device-readable data.
  Answer request(std::uint32_t type, std::uint64_t sector, std::uint32_t size,
                 std::vector<std::byte>* data = nullptr) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    builder.readable(header(type, sector));
    if (size > 0) builder.writable(size);
    builder.writable_at(status, 1);
    const Answer answer = finish(builder, status);
    if (data != nullptr) {
      data->resize(size);
      memory_.read(builder.address(1), *data);
    }
    return answer;
  }
  /// Discard or write-zeroes of these segments, of which the last `cut` bytes are missing.
  Answer clear(std::uint32_t type, const std::vector<BlockSegment>& segments, std::size_t cut = 0) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    builder.readable(header(type, 0));
    const auto bytes = std::as_bytes(std::span(segments));
    if (!bytes.empty()) builder.readable(bytes.first(bytes.size() - cut));
    builder.writable_at(status, 1);
    return finish(builder, status);
  }
  test::FakeQueue& queue() { return driver_->queue(0); }
  std::string refusal(const BlockConfig& config) {
    const auto block = make_block(config, memory_, *loop_);
    return block ? "" : block.error().message;
  }

  Directory directory_;
  std::string path_ = directory_ / "disk.img";
  GuestMemory memory_ = make_memory(16 * kMiB);
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test");
  std::unique_ptr<Block> block_;
  std::optional<FakeDriver> driver_;
};

// Identity

TEST_F(BlockTest, TellsItsSizeAndLimits) {
  start();
  EXPECT_EQ(block_->id(), DeviceId::block);
  EXPECT_EQ(block_->name(), "block disk.img");
  EXPECT_EQ(driver_->read_config<std::uint64_t>(0), kSectors);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(12), 254U) << "seg_max";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(20), 512U) << "blk_size";
  EXPECT_EQ(block_->offered_features(), kFeatureIndirectDesc | kFeatureEventIdx | 1U << 2 | 1U << 6 |
                                            1U << 9 | 1U << 10 | 1U << 11 | 1U << 13 | 1U << 14);
}

TEST_F(BlockTest, TellsItsTopologyAndWhatItTakesInOneRequest) {
  start({.path = path_, .queues = 3, .block_size = 1024});
  EXPECT_EQ(driver_->read_config<std::uint32_t>(20), 1024U) << "blk_size";
  EXPECT_EQ(driver_->read_config<std::uint8_t>(24), 2U) << "physical blocks of 4 KiB, as the filesystem has";
  EXPECT_EQ(driver_->read_config<std::uint16_t>(26), 4U) << "min_io_size";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(28), 0U) << "opt_io_size";
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 1U) << "write-back";
  EXPECT_EQ(driver_->read_config<std::uint16_t>(34), 3U) << "num_queues";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(36), kGiB / 512) << "max_discard_sectors";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(40), 16U) << "max_discard_seg";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(44), 8U) << "discard_sector_alignment";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(48), 32 * kMiB / 512) << "max_write_zeroes_sectors";
  EXPECT_EQ(driver_->read_config<std::uint8_t>(56), 1U) << "write_zeroes_may_unmap";
  EXPECT_EQ(block_->config_size(), 60U);
}

TEST_F(BlockTest, AnOddSizeForTheBlockSizeIsRefused) {
  write_image(pattern(3 * kSectorSize, 1));
  EXPECT_THAT(refusal({.path = path_, .block_size = 4096}), HasSubstr("no multiple of the block size 4096"));
}

TEST_F(BlockTest, AReadOnlyDiskSaysSo) {
  start(true);
  EXPECT_NE(block_->offered_features() & 1U << 5, 0U);
}

TEST_F(BlockTest, TheGuestCannotChangeTheCapacity) {
  start();
  driver_->write_config<std::uint64_t>(0, 1ULL << 40);
  EXPECT_EQ(driver_->read_config<std::uint64_t>(0), kSectors);
}

// Requests

TEST_F(BlockTest, ReadsWhatTheImageHolds) {
  start();
  std::vector<std::byte> data;
  const Answer answer = request(kIn, 5, 3 * kSectorSize, &data);
  EXPECT_EQ(answer.status, kOk);
  EXPECT_EQ(answer.written, 3 * kSectorSize + 1) << "data and status";
  EXPECT_EQ(data, image(5, 3 * kSectorSize));
  EXPECT_EQ(driver_->host().queue_interrupts(0), 1);
}

TEST_F(BlockTest, WritesReachTheImageBeforeTheyAreAcknowledged) {
  start();
  const auto data = pattern(2 * kSectorSize, 99);
  const Answer answer = write(7, data);
  EXPECT_EQ(answer.status, kOk);
  EXPECT_EQ(answer.written, 1U) << "only the status";
  EXPECT_EQ(image(7, 2 * kSectorSize), data);
  const auto original = pattern(kSectors * kSectorSize, 3);
  EXPECT_TRUE(
      std::ranges::equal(image(9, kSectorSize), std::span(original).subspan(9 * kSectorSize, kSectorSize)))
      << "what follows is untouched";
}

TEST_F(BlockTest, DataInManyBuffersOfAnySizeIsOneRequest) {
  start();
  const auto data = pattern(2 * kSectorSize, 50);
  GuestAddress status = status_byte();
  ChainBuilder out(queue());
  out.readable(header(kOut, 10));
  for (std::size_t at = 0; at < data.size(); at += 100) {
    out.readable(std::span(data).subspan(at, std::min<std::size_t>(100, data.size() - at)));
  }
  out.writable_at(status, 1);
  EXPECT_EQ(finish(out, status, true).status, kOk);
  EXPECT_EQ(image(10, data.size()), data);

  status = status_byte();
  ChainBuilder in(queue());
  in.readable(header(kIn, 10)).writable(1000).writable(24).writable_at(status, 1);
  const Answer answer = finish(in, status);
  EXPECT_EQ(answer.status, kOk);
  EXPECT_EQ(answer.written, 1025U);
  std::vector<std::byte> read(1000);
  memory_.read(in.address(1), read);
  EXPECT_TRUE(std::equal(read.begin(), read.end(), data.begin()));
}

TEST_F(BlockTest, TheLayoutOfTheChainDoesNotMatter) {  // 2.7.4: no assumption about descriptor boundaries
  start();
  const auto data = pattern(kSectorSize, 11);
  std::vector<std::byte> all = header(kOut, 3);
  all.insert(all.end(), data.begin(), data.end());
  GuestAddress status = status_byte();
  ChainBuilder out(queue());
  out.readable(std::span(all).first(5)).readable(std::span(all).subspan(5)).writable_at(status, 1);
  EXPECT_EQ(finish(out, status).status, kOk);
  EXPECT_EQ(image(3, kSectorSize), data);
  // Data and status in one buffer.
  ChainBuilder in(queue());
  in.readable(header(kIn, 3)).writable(kSectorSize + 1);
  status = in.address(1) + kSectorSize;
  memory_.write(status, kUntouched);
  EXPECT_EQ(finish(in, status).status, kOk);
  std::vector<std::byte> read(kSectorSize);
  memory_.read(in.address(1), read);
  EXPECT_EQ(read, data);
}

TEST_F(BlockTest, FlushSucceedsOnWritableAndReadOnlyImages) {
  start();
  const Answer answer = request(kFlush, 0, 0);
  EXPECT_EQ(answer.status, kOk);
  EXPECT_EQ(answer.written, 1U);
  EXPECT_EQ(block_->counters().flushes, 1U);
  driver_.reset();
  block_.reset();
  start(true);
  EXPECT_EQ(request(kFlush, 0, 0).status, kOk);
}

TEST_F(BlockTest, TheSerialNumberIsPaddedWithZeros) {
  start();
  std::vector<std::byte> data;
  const Answer answer = request(kGetId, 0, 20, &data);
  EXPECT_EQ(answer.status, kOk);
  EXPECT_EQ(answer.written, 21U);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), 20),
            std::string("serial-1") + std::string(12, '\0'));
}

TEST_F(BlockTest, ASerialNumberOfTwentyBytesHasNoEnd) {
  start(false, "12345678901234567890");
  std::vector<std::byte> data;
  EXPECT_EQ(request(kGetId, 0, 20, &data).status, kOk);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), 20), "12345678901234567890");
}

TEST_F(BlockTest, ARequestForTheSerialNumberWithLessRoomGetsWhatFits) {
  start();
  const Answer answer = request(kGetId, 0, 4);
  EXPECT_EQ(answer.status, kOk);
  EXPECT_EQ(answer.written, 5U);
}

TEST_F(BlockTest, UnknownTypesAreUnsupported) {
  start();
  for (const std::uint32_t type : {2U, 3U, 5U, 12U, 14U, 0x80000000U, 0xffffffffU}) {
    const Answer answer = request(type, 0, 0);
    EXPECT_EQ(answer.status, kUnsupported) << type;
    EXPECT_EQ(answer.written, 1U) << type;
  }
}

TEST_F(BlockTest, AReadOnlyDiskRefusesWritesAndKeepsItsContent) {
  start(true);
  const auto before = image(0, kSectorSize);
  EXPECT_EQ(write(0, pattern(kSectorSize, 77)).status, kIoError);
  EXPECT_EQ(image(0, kSectorSize), before);
  std::vector<std::byte> data;
  EXPECT_EQ(request(kIn, 0, kSectorSize, &data).status, kOk);
  EXPECT_EQ(data, before);
}

TEST_F(BlockTest, ManyRequestsInOneKickAreAllAnswered) {
  start();
  std::vector<GuestAddress> statuses;
  for (std::uint64_t i = 0; i < 80; ++i) {
    statuses.push_back(status_byte());
    ChainBuilder(queue())
        .readable(header(kIn, i % kSectors))
        .writable(kSectorSize)
        .writable_at(statuses.back(), 1)
        .submit();
  }
  driver_->kick(0);
  EXPECT_TRUE(test::eventually([&] { return queue().used_index() == 80; }));
  for (const GuestAddress status : statuses) EXPECT_EQ(memory_.read<std::uint8_t>(status), kOk);
}

// Discard and write-zeroes

TEST_F(BlockTest, WriteZeroesAndDiscardClearWhatTheyName) {
  start();
  auto expected = pattern(kSectors * kSectorSize, 3);
  EXPECT_EQ(clear(kWriteZeroes, {{4, 2, 0}, {20, 8, 0}}).status, kOk);
  std::fill_n(expected.begin() + 4 * 512, 2 * 512, std::byte{0});
  std::fill_n(expected.begin() + 20 * 512, 8 * 512, std::byte{0});
  EXPECT_EQ(image(0, expected.size()), expected);
  EXPECT_EQ(clear(kWriteZeroes, {{40, 8, 1}}).status, kOk) << "may unmap";
  EXPECT_EQ(clear(kDiscard, {{48, 8, 0}}).status, kOk);
  std::fill_n(expected.begin() + 40 * 512, 16 * 512, std::byte{0});
  EXPECT_EQ(image(0, expected.size()), expected);
  EXPECT_EQ(block_->counters().discards, 3U);
}

TEST_F(BlockTest, SegmentsThatAreNoneOrLieOutsideAreIoErrorsAndDoNothing) {  // Cloud Hypervisor #7873, #8388
  start();
  for (const std::uint32_t type : {kDiscard, kWriteZeroes}) {
    EXPECT_EQ(clear(type, {}).status, kIoError);
    EXPECT_EQ(clear(type, {{0, 1, 0}, {kSectors, 1, 0}}).status, kIoError) << "one of them is good";
    EXPECT_EQ(clear(type, {{kSectors - 1, 2, 0}}).status, kIoError);
    EXPECT_EQ(clear(type, {{~0ULL, 1, 0}}).status, kIoError);
    EXPECT_EQ(clear(type, {{1ULL << 55, 1, 0}}).status, kIoError);
    EXPECT_EQ(clear(type, {{0, 0xffffffff, 0}}).status, kIoError);
    EXPECT_EQ(clear(type, std::vector<BlockSegment>(17, {0, 1, 0})).status, kIoError) << "too many";
    EXPECT_EQ(clear(type, {{0, 1, 2}}).status, kUnsupported) << "an unknown flag";
    EXPECT_EQ(clear(type, {{0, 1, 0}}, 15).status, kIoError) << "cut off";
  }
  EXPECT_EQ(clear(kDiscard, {{0, 1, 1}}).status, kUnsupported) << "unmap is not for discards";
  EXPECT_EQ(image(0, kSectors * kSectorSize), pattern(kSectors * kSectorSize, 3));
}

TEST_F(BlockTest, AReadOnlyDiskIsNotCleared) {
  start(true);
  EXPECT_EQ(block_->offered_features() & (1U << 13 | 1U << 14), 0U);
  EXPECT_EQ(clear(kDiscard, {{0, 1, 0}}).status, kIoError);
  EXPECT_EQ(clear(kWriteZeroes, {{0, 1, 0}}).status, kIoError);
  EXPECT_EQ(image(0, kSectors * kSectorSize), pattern(kSectors * kSectorSize, 3));
}

TEST_F(BlockTest, WithoutDiscardTheImageKeepsItsPlace) {
  start({.path = path_, .discard = false});
  EXPECT_EQ(block_->offered_features() & 1U << 13, 0U);
  EXPECT_EQ(driver_->read_config<std::uint8_t>(56), 0U) << "write_zeroes_may_unmap";
  EXPECT_EQ(clear(kDiscard, {{0, 1, 0}}).status, kUnsupported);
  EXPECT_EQ(clear(kWriteZeroes, {{0, 8, 1}}).status, kOk);
  struct stat status = {};
  ::stat(path_.c_str(), &status);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_blocks), kSectors);
}

// Cache modes

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

TEST_F(BlockTest, AByteLimitCountsBytes) {
  start({.path = path_, .bytes_per_second = 64 * kKiB, .burst_bytes = 4096});
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

TEST_F(BlockTest, SettlingWaitsForWhatIsUnderWayAndAnswersIt) {
  start({.path = path_, .cache = BlockCache::none});
  for (int i = 0; i < 20; ++i) {
    const GuestAddress data = queue().allocate(4096, 4096);
    ChainBuilder(queue()).readable(header(kIn, 0)).writable_at(data, 4096).writable(1).submit();
  }
  const std::lock_guard lock(block_->mutex);
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

// Hostile requests

TEST_F(BlockTest, SectorsOutsideTheImageAreIoErrors) {  // Cloud Hypervisor #7873, #8388; openvmm #4046
  start();
  struct Case {
    std::uint64_t sector;
    std::uint32_t sectors;
  };
  for (const Case& c :
       {Case{kSectors, 1}, Case{kSectors - 1, 2}, Case{~0ULL, 1}, Case{~0ULL, 2}, Case{1ULL << 55, 1},
        Case{(1ULL << 55) - 1, 2}, Case{1ULL << 63, 1}, Case{0, kSectors + 1}}) {
    const Answer answer = request(kIn, c.sector, static_cast<std::uint32_t>(c.sectors * kSectorSize));
    EXPECT_EQ(answer.status, kIoError) << c.sector;
    EXPECT_EQ(answer.written, 1U) << c.sector;
    EXPECT_EQ(write(c.sector, pattern(c.sectors * kSectorSize, 1)).status, kIoError) << c.sector;
  }
  EXPECT_EQ(std::filesystem::file_size(path_), kSectors * kSectorSize)
      << "nothing was written behind the end";
  EXPECT_EQ(image(0, kSectors * kSectorSize), pattern(kSectors * kSectorSize, 3));
  EXPECT_EQ(request(kIn, kSectors - 1, kSectorSize).status, kOk) << "the last one is inside";
  EXPECT_EQ(driver_->host().reset_reason(), "");
}

TEST_F(BlockTest, PartsOfSectorsAreIoErrors) {  // Cloud Hypervisor #8557
  start();
  for (const std::uint32_t size : {1U, 511U, 513U, 1023U}) {
    EXPECT_EQ(request(kIn, 0, size).status, kIoError) << size;
    EXPECT_EQ(write(0, pattern(size, 1)).status, kIoError) << size;
  }
  EXPECT_EQ(image(0, kSectors * kSectorSize), pattern(kSectors * kSectorSize, 3));
}

TEST_F(BlockTest, AHeaderThatIsTooShortIsAnIoError) {
  start();
  for (const std::size_t size : {0U, 1U, 15U}) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    const auto whole = header(kIn, 0);
    builder.readable(std::span(whole).first(size)).writable_at(status, 1);
    const Answer answer = finish(builder, status);
    EXPECT_EQ(answer.status, kIoError) << size;
    EXPECT_EQ(answer.written, 1U);
  }
}

TEST_F(BlockTest, ARequestWithoutRoomForAStatusIsReturnedAndDoesNothing) {
  start();
  const auto before = image(0, kSectorSize);
  ChainBuilder(queue()).readable(header(kOut, 0)).readable(pattern(kSectorSize, 1)).submit();
  const auto used = driver_->kick_and_wait(0);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 0U);
  EXPECT_EQ(image(0, kSectorSize), before);
  EXPECT_EQ(block_->counters().malformed, 1U);
  EXPECT_EQ(request(kIn, 0, kSectorSize).status, kOk) << "and the next one works";
}

TEST_F(BlockTest, AnEmptyTransferIsDoneAtOnce) {
  start();
  EXPECT_EQ(request(kIn, 0, 0).status, kOk);
  EXPECT_EQ(write(0, {}).status, kOk);
}

TEST_F(BlockTest, AnImageTruncatedWhileRunningGivesIoErrorsNotACrash) {
  start();
  std::filesystem::resize_file(path_, 4 * kSectorSize + 100);
  EXPECT_EQ(request(kIn, 0, kSectorSize).status, kOk);
  EXPECT_EQ(request(kIn, 10, kSectorSize).status, kIoError);
  const Answer torn = request(kIn, 4, kSectorSize);
  EXPECT_EQ(torn.status, kIoError);
  EXPECT_EQ(torn.written, 101U) << "what was read before the end, and the status";
  EXPECT_EQ(block_->counters().failed, 2U);
}

TEST_F(BlockTest, ABrokenChainAsksForAResetAndTheDiskWorksAgainAfterIt) {
  start();
  ChainBuilder(queue()).readable(header(kIn, 0)).writable_at(memory_.size() - 100, 512).submit();
  driver_->kick(0);
  EXPECT_THAT(driver_->host().reset_reason(), HasSubstr("not in guest RAM"));
  driver_->reset();
  driver_->start();
  EXPECT_EQ(request(kIn, 0, kSectorSize).status, kOk);
}

TEST_F(BlockTest, NothingIsWrittenAfterAReset) {
  start();
  ChainBuilder(queue()).readable(header(kIn, 0)).writable(512).writable(1).submit();
  driver_->reset();
  // The device may have found the request by itself before.
  const auto interrupts = driver_->host().queue_interrupts(0);
  const auto used = queue().used_index();
  driver_->kick(0);
  EXPECT_EQ(driver_->host().queue_interrupts(0), interrupts);
  EXPECT_EQ(queue().used_index(), used);
}

TEST(ImageOffset, IsCheckedWithoutOverflow) {
  EXPECT_EQ(image_offset(0, 512, 1), 0U);
  EXPECT_EQ(image_offset(3, 1024, 5), 1536U);
  EXPECT_EQ(image_offset(4, 1024, 5), std::nullopt);
  EXPECT_EQ(image_offset(5, 0, 5), 2560U);
  EXPECT_EQ(image_offset(6, 0, 5), std::nullopt);
  EXPECT_EQ(image_offset(~0ULL, 512, ~0ULL >> 9), std::nullopt);
  EXPECT_EQ(image_offset(1, ~0ULL - 511, 5), std::nullopt);
  EXPECT_EQ(image_offset(0, 100, 5), std::nullopt);
}

// What can be wrong with an image

TEST_F(BlockTest, AnAbsentImageIsRefused) {
  const auto message = refusal({.path = directory_ / "absent.img"});
  EXPECT_THAT(message, HasSubstr("absent.img"));
  EXPECT_THAT(message, HasSubstr("No such file"));
}

TEST_F(BlockTest, AnEmptyImageIsRefused) {
  write_image({});
  EXPECT_THAT(refusal({.path = path_}), HasSubstr("0 bytes"));
}

TEST_F(BlockTest, AnImageThatIsNoMultipleOfASectorIsRefused) {
  write_image(pattern(1000, 0));
  EXPECT_THAT(refusal({.path = path_}), HasSubstr("1000 bytes is no multiple of 512"));
}

TEST_F(BlockTest, ADirectoryIsRefused) {
  for (const bool read_only : {false, true}) {
    EXPECT_THAT(refusal({.path = directory_ / ".", .read_only = read_only}), HasSubstr("it is a directory"));
  }
}

TEST_F(BlockTest, AFifoIsRefusedWithoutWaitingForIt) {
  const std::string fifo = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(refusal({.path = fifo}), HasSubstr("neither a regular file nor a block device"));
  EXPECT_THAT(refusal({.path = fifo, .read_only = true}),
              HasSubstr("neither a regular file nor a block device"));
}

TEST_F(BlockTest, ACharacterDeviceIsRefused) {
  EXPECT_THAT(refusal({.path = "/dev/zero"}), HasSubstr("neither a regular file nor a block device"));
}

TEST_F(BlockTest, AnImageWithoutPermissionIsRefused) {
  // Root may open anything; so another user tries.
  std::filesystem::permissions(path_, std::filesystem::perms::owner_read);
  const uid_t user = ::geteuid();
  if (user == 0) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const auto message = refusal({.path = path_});
  if (user == 0) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  EXPECT_THAT(message, HasSubstr("Permission denied"));
}

TEST_F(BlockTest, ASerialNumberThatIsTooLongIsRefused) {
  EXPECT_THAT(refusal({.path = path_, .serial = "123456789012345678901"}), HasSubstr("at most 20"));
}

TEST_F(BlockTest, RunningOutOfFileDescriptorsIsAnError) {
  for (int left = 0; left < 2; ++left) {
    const test::FewDescriptors few(left);
    EXPECT_THAT(refusal({.path = path_}), HasSubstr("Too many open files")) << left;
  }
  EXPECT_EQ(refusal({.path = path_}), "") << "and the lock did not stay behind";
}

TEST_F(BlockTest, TwoWritersOfOneImageAreRefused) {
  start();
  EXPECT_THAT(refusal({.path = path_}), HasSubstr("another VMM has it open"));
  EXPECT_THAT(refusal({.path = path_, .read_only = true}), HasSubstr("another VMM has it open for writing"));
  driver_.reset();
  block_.reset();
  EXPECT_EQ(refusal({.path = path_}), "") << "the lock goes with its owner";
}

TEST_F(BlockTest, AnImageWhoseOwnerIsJustEndingIsOpened) {
  start();
  std::jthread end([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    driver_.reset();
    block_.reset();
  });
  EXPECT_EQ(refusal({.path = path_}), "");
}

TEST_F(BlockTest, ReadersShareAnImageAndKeepWritersOut) {
  start(true);
  EXPECT_EQ(refusal({.path = path_, .read_only = true}), "");
  EXPECT_THAT(refusal({.path = path_}), HasSubstr("another VMM has it open"));
}

}  // namespace
}  // namespace balloon::vmm
