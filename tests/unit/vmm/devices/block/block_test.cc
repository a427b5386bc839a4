// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/block/block_fixture.h"

namespace balloon::vmm::test {
namespace {

using ::testing::HasSubstr;

// Identity

TEST_F(BlockTest, TellsItsSizeAndLimits) {
  start();
  EXPECT_EQ(block_->id(), DeviceId::block);
  EXPECT_EQ(block_->name(), "block disk.img");
  EXPECT_EQ(driver_->read_config<std::uint64_t>(0), kSectors);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(12), 254U) << "seg_max";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(20), 512U) << "blk_size";
  EXPECT_EQ(block_->offered_features(), kFeatureIndirectDesc | kFeatureEventIdx | 1U << 1 | 1U << 2 |
                                            1U << 6 | 1U << 9 | 1U << 10 | 1U << 11 | 1U << 13 | 1U << 14);
}

TEST_F(BlockTest, TellsItsTopologyAndWhatItTakesInOneRequest) {
  start({.path = path_, .queues = 3, .block_size = 1024});
  EXPECT_EQ(driver_->read_config<std::uint32_t>(20), 1024U) << "blk_size";
  EXPECT_EQ(driver_->read_config<std::uint8_t>(24), 2U) << "physical blocks of 4 KiB, as the filesystem has";
  EXPECT_EQ(driver_->read_config<std::uint16_t>(26), 4U) << "min_io_size";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(28), 0U) << "opt_io_size";
  EXPECT_EQ(driver_->read_config<std::uint8_t>(32), 1U) << "write-back";
  EXPECT_EQ(driver_->read_config<std::uint16_t>(34), 3U) << "num_queues";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(36), 1_GiB / 512) << "max_discard_sectors";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(40), 16U) << "max_discard_seg";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(44), 8U) << "discard_sector_alignment";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(48), 32_MiB / 512) << "max_write_zeroes_sectors";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(52), 16U) << "max_write_zeroes_seg";
  EXPECT_EQ(driver_->read_config<std::uint8_t>(56), 1U) << "write_zeroes_may_unmap";
  EXPECT_EQ(block_->config_size(), 60U);
}

TEST_F(BlockTest, AQcow2DiskTellsTheSizeOfItsClusters) {
  make_image("-f qcow2 " + path_ + " 1M");
  start({.path = path_, .format = BlockFormat::qcow2});
  EXPECT_EQ(driver_->read_config<std::uint64_t>(0), 1_MiB / 512);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(28), 64_KiB / 512) << "opt_io_size";
  EXPECT_EQ(driver_->read_config<std::uint32_t>(44), 64_KiB / 512) << "discard_sector_alignment";
}

TEST_F(BlockTest, EachRequestIsCountedWithItsBytes) {
  start();
  EXPECT_EQ(request(kIn, 5, 3 * kSectorSize).status, kOk);
  EXPECT_EQ(write(7, pattern(2 * kSectorSize, 9)).status, kOk);
  EXPECT_EQ(write(9, pattern(kSectorSize, 9)).status, kOk);
  EXPECT_EQ(request(kFlush, 0, 0).status, kOk);
  EXPECT_EQ(clear(kDiscard, {{48, 8, 0}}).status, kOk);
  EXPECT_EQ(request(kIn, kSectors, kSectorSize).status, kIoError);
  const BlockCounters counters = block_->counters();
  EXPECT_EQ(counters.reads, 1U);
  EXPECT_EQ(counters.read, Bytes{3 * kSectorSize});
  EXPECT_EQ(counters.writes, 2U);
  EXPECT_EQ(counters.written, Bytes{3 * kSectorSize});
  EXPECT_EQ(counters.flushes, 1U);
  EXPECT_EQ(counters.discards, 1U);
  EXPECT_EQ(counters.failed, 1U);
  EXPECT_EQ(counters.malformed, 0U);
  EXPECT_EQ(counters.throttled, 0U);
}

TEST_F(BlockTest, ASegmentIsNoLongerThanTheDriverWasTold) {
  std::filesystem::resize_file(path_, 2_GiB);
  start();
  constexpr std::uint32_t kZeroes = 32_MiB / 512;
  constexpr std::uint32_t kDiscards = 1_GiB / 512;
  EXPECT_EQ(clear(kWriteZeroes, {{0, kZeroes, 1}}).status, kOk);
  EXPECT_EQ(clear(kWriteZeroes, {{0, kZeroes + 1, 1}}).status, kIoError);
  EXPECT_EQ(clear(kDiscard, {{0, kDiscards, 0}}).status, kOk);
  EXPECT_EQ(clear(kDiscard, {{0, kDiscards + 1, 0}}).status, kIoError);
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

TEST_F(BlockTest, ARequestKeepsItsPlaceWhenOneOfItsSegmentsShall) {
  start();
  const auto place = [this] {
    struct stat status = {};
    ::stat(path_.c_str(), &status);
    return static_cast<std::uint64_t>(status.st_blocks);
  };
  EXPECT_EQ(clear(kWriteZeroes, {{0, 8, 0}, {8, 8, 1}}).status, kOk);
  EXPECT_EQ(clear(kWriteZeroes, {{16, 8, 1}, {24, 8, 0}}).status, kOk);
  EXPECT_EQ(place(), kSectors);
  EXPECT_EQ(clear(kWriteZeroes, {{0, 8, 1}, {8, 8, 1}}).status, kOk);
  EXPECT_EQ(place(), kSectors - 16);
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

}  // namespace
}  // namespace balloon::vmm::test
