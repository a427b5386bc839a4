// SPDX-License-Identifier: Apache-2.0
// What can be wrong with an image, found when the device is made.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "tests/unit/vmm/devices/block/block_fixture.h"

namespace balloon::vmm::test {
namespace {

using ::testing::HasSubstr;

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

TEST_F(BlockTest, ALockThatIsOffKeepsNobodyAway) {
  TestDisk first({.path = path_});
  EXPECT_THAT(refusal({.path = path_, .lock = BlockLock::warn}), HasSubstr("another VMM has it open"));
  EXPECT_EQ(refusal({.path = path_, .lock = BlockLock::off}), "");
}

TEST_F(BlockTest, ASizeThatIsNoMultipleOfASectorIsRefusedWithTheRemedy) {
  std::filesystem::resize_file(path_, 1000);
  EXPECT_THAT(refusal({.path = path_}), HasSubstr("truncate --size 1024"));
}

}  // namespace
}  // namespace balloon::vmm::test
