// SPDX-License-Identifier: Apache-2.0
// Requests that make no sense, and drivers that go away: nothing outside the image is touched.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/unit/vmm/devices/block/block_fixture.h"

namespace balloon::vmm::test {
namespace {

using ::testing::HasSubstr;

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

TEST_F(BlockTest, AHeaderThatTheGuestKeepsChangingIsReadOnce) {  // no double fetch
  start();
  const auto last = image(kSectors - 1, kSectorSize);
  const GuestAddress at = queue().allocate(16);
  memory_.write(at, std::span<const std::byte>(header(kIn, kSectors - 1)));
  std::jthread changing([&](const std::stop_token& stop) {
    const auto host = memory_.at(at + 8, 8);
    const std::atomic_ref sector(*reinterpret_cast<std::uint64_t*>(host->data()));
    while (!stop.stop_requested()) {
      sector.store(~0ULL, std::memory_order_relaxed);
      sector.store(kSectors - 1, std::memory_order_relaxed);
    }
  });
  const GuestAddress data = queue().allocate(kSectorSize);
  for (int round = 0; round < 2'000; ++round) {
    const GuestAddress status = status_byte();
    ChainBuilder builder(queue());
    builder.readable_at(at, 16).writable_at(data, kSectorSize).writable_at(status, 1);
    const Answer answer = finish(builder, status);
    ASSERT_TRUE(answer.status == kOk || answer.status == kIoError) << round;
    if (answer.status != kOk) continue;
    std::vector<std::byte> got(kSectorSize);
    memory_.read(data, got);
    ASSERT_EQ(got, last) << round;
  }
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
  ChainBuilder(queue()).readable(header(kIn, 0)).writable_at(memory_.size().count() - 100, 512).submit();
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

}  // namespace
}  // namespace balloon::vmm::test
