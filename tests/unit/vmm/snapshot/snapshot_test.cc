// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/snapshot/crc32c.h"
#include "vmm/snapshot/memory_pages.h"
#include "vmm/snapshot/snapshot_file.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class SnapshotTest : public testing::Test {
 protected:
  SnapshotTest() { std::filesystem::create_directories(directory); }
  ~SnapshotTest() override { std::filesystem::remove_all(directory); }

  void write() {
    const auto written = write_snapshot(path, state, memory);
    ASSERT_TRUE(written) << written.error().message;
    size = *written;
  }
  std::string refusal() {
    auto file = SnapshotFile::open(path);
    if (!file) return file.error().message;
    const GuestMemory into = make_memory();
    const auto loaded = file->load_memory(into);
    return loaded ? "" : loaded.error().message;
  }
  void damage(std::uint64_t offset) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(offset));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 0x10));
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("snapshot-test-" + std::to_string(::getpid()));
  std::string path = directory / "guest.snapshot";
  GuestMemory memory = make_memory();
  std::vector<std::byte> state = std::vector<std::byte>(1000, std::byte{0x5a});
  SnapshotSize size;
};

TEST(Crc32c, HasThePublishedValues) {
  EXPECT_EQ(crc32c(bytes("123456789")), 0xe3069283U);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0})), 0x8a9136aaU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c({}), 0U);
}

TEST_F(SnapshotTest, StateAndMemoryComeBackByteForByte) {
  std::mt19937 random(1);
  for (int i = 0; i < 500; ++i) {
    memory.write<std::uint64_t>(random() % (memory.size().count() / 8 - 1) * 8, std::uint64_t{random()} + 1);
  }
  write();
  auto file = SnapshotFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->state(), state);
  const GuestMemory other = make_memory();
  ASSERT_TRUE(file->load_memory(other));
  EXPECT_EQ(std::memcmp(memory.at(0, memory.size().count())->data(),
                        other.at(0, other.size().count())->data(), memory.size().count()),
            0);
}

TEST_F(SnapshotTest, UntouchedZeroAndReleasedPagesAreNotWritten) {
  for (std::uint64_t page = 0; page < 1024; ++page) memory.write<std::uint64_t>(page * kPageSize, page + 1);
  for (std::uint64_t page = 0; page < 100; ++page) memory.write<std::uint64_t>(page * kPageSize, 0);
  ASSERT_TRUE(memory.release({512 * kPageSize, 512 * kPageSize}));  // as an inflated balloon does
  write();
  EXPECT_EQ(size.memory, (512 - 100) * balloon::kPageSize);
  EXPECT_LT(size.file, size.memory + 100 * kKiB);
  EXPECT_EQ(std::filesystem::file_size(path), size.file.count());
}

TEST_F(SnapshotTest, LookingForUsedPagesGivesNoneToWhatHasNone) {
  memory.write<std::uint64_t>(5 * kHugePageSize, 1);
  write();
  EXPECT_EQ(resident_pages(memory, 8 * kHugePageSize / kPageSize, 1024), 0U);
  auto file = SnapshotFile::open(path);
  const GuestMemory other = make_memory();
  ASSERT_TRUE(file->load_memory(other));
  EXPECT_EQ(resident_pages(other, 8 * kHugePageSize / kPageSize, 1024), 0U);
}

TEST_F(SnapshotTest, OnlyItsUserReadsItAndNothingElseIsLeft) {
  write();
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1);
}

TEST_F(SnapshotTest, AFailedWriteLeavesTheOldFileAndNoPart) {
  write();
  const auto before = std::filesystem::file_size(path);
  for (std::uint64_t page = 0; page < 1024; ++page) memory.write<std::uint64_t>(page * kPageSize, page + 1);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 64 * 1024, .rlim_max = old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto failed = write_snapshot(path, state, memory);
  ::setrlimit(RLIMIT_FSIZE, &old);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("File too large"));
  EXPECT_EQ(std::filesystem::file_size(path), before);
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST_F(SnapshotTest, APipeIsRefusedAndNotWaitedFor) {
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto opened = SnapshotFile::open(path);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("is not a regular file"));
  const std::string target = directory / "new";
  ASSERT_EQ(::mkfifo((target + ".part").c_str(), 0600), 0);
  EXPECT_FALSE(write_snapshot(target, state, memory));
  EXPECT_TRUE(std::filesystem::exists(target + ".part")) << "what was there is not ours";
}

TEST_F(SnapshotTest, AWriteThatIsGivenUpEndsAtOnce) {
  for (std::uint64_t page = 0; page < 1024; ++page) memory.write<std::uint64_t>(page * kPageSize, page + 1);
  int asked = 0;
  const auto failed = write_snapshot(path, state, memory, [&] { return ++asked > 1; });
  ASSERT_FALSE(failed);
  EXPECT_EQ(asked, 2);
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST_F(SnapshotTest, AWriteToAPlaceThatIsNotThereSaysWhere) {
  const auto failed = write_snapshot(directory / "no" / "such" / "place", state, memory);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("no/such/place"));
}

TEST_F(SnapshotTest, DamageAnywhereIsFound) {
  for (std::uint64_t page = 0; page < 64; ++page) memory.write<std::uint64_t>(page * 3 * kPageSize, page + 1);
  write();
  ASSERT_EQ(refusal(), "");
  std::mt19937_64 random(7);
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t at = i < 64 ? static_cast<std::uint64_t>(i) : random() % size.file.count();
    damage(at);
    EXPECT_THAT(refusal(), testing::Not("")) << "byte " << at;
    damage(at);
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(SnapshotTest, AFileThatIsCutOffIsRefused) {
  memory.write<std::uint64_t>(0, 1);
  write();
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{10}, std::uint64_t{100},
                                     size.file.count() / 2, size.file.count() - 1}) {
    std::filesystem::resize_file(path, length);
    EXPECT_THAT(refusal(), HasSubstr("cut off")) << length;
    write();
  }
}

TEST_F(SnapshotTest, OtherFilesAndVersionsAreNamed) {
  std::ofstream(path) << std::string(4096, 'x');
  EXPECT_THAT(refusal(), HasSubstr("no snapshot"));
  write();
  damage(8);
  EXPECT_THAT(refusal(), HasSubstr("version " + std::to_string(kSnapshotVersion ^ 0x10U)));
  EXPECT_THAT(SnapshotFile::open("/no/such/file").error().message, HasSubstr("/no/such/file"));
}

TEST_F(SnapshotTest, MemoryOfALargerGuestIsRefused) {
  const GuestMemory large = make_memory(128 * kMiB);
  large.write<std::uint64_t>(100_MiB, 1);
  ASSERT_TRUE(write_snapshot(path, state, large));
  EXPECT_THAT(refusal(), HasSubstr("memory record 0"));
}

TEST(StateStream, WhatIsPutIsRead) {
  StateWriter writer;
  writer.section("one");
  writer.put(std::uint32_t{7});
  writer.list(std::vector<std::uint16_t>{1, 2, 3});
  writer.section("two");
  writer.text("name");
  StateReader reader(writer.bytes());
  EXPECT_TRUE(reader.section("one"));
  EXPECT_EQ(reader.get<std::uint32_t>(), 7U);
  EXPECT_THAT(reader.list<std::uint16_t>(), testing::ElementsAre(1, 2, 3));
  EXPECT_TRUE(reader.section("two"));
  EXPECT_EQ(reader.text(), "name");
  EXPECT_TRUE(reader.at_end());
  EXPECT_TRUE(reader.check());
}

TEST(StateStream, AnotherPartThanExpectedIsNamed) {
  StateWriter writer;
  writer.section("vCPU 1");
  StateReader reader(writer.bytes());
  const auto wrong = reader.section("vCPU 0");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("'vCPU 0' is missing: 'vCPU 1'"));
}

TEST(StateStream, LengthsThatLieReadAsNothing) {
  StateWriter writer;
  writer.section("x");
  writer.put(~0ULL);
  StateReader reader(writer.bytes());
  EXPECT_TRUE(reader.section("x"));
  EXPECT_TRUE(reader.list<std::uint64_t>().empty());
  EXPECT_EQ(reader.get<int>(), 0);
  ASSERT_FALSE(reader.check());
  EXPECT_THAT(reader.check().error().message, HasSubstr("'x' ends too early"));
}

}  // namespace
}  // namespace balloon::vmm::test
