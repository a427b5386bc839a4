// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/vmm/boot/kernel_files.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CommandLineTest, TheLongestThatTheKernelTakesFitsAndOneMoreIsRefused) {
  GuestMemory memory = guest_memory(2 * kMiB);
  EXPECT_TRUE(write_command_line(memory, std::string(2047, 'a'), 2047));
  auto refused = write_command_line(memory, std::string(2048, 'a'), 2047);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("too long"), HasSubstr("2048"), HasSubstr("2047")));
}

TEST(CommandLineTest, OurOwnRoomBoundsItToo) {
  GuestMemory memory = guest_memory(2 * kMiB);
  EXPECT_TRUE(write_command_line(memory, std::string(layout::kCommandLineMax - 1, 'a'), 0xffffffff));
  EXPECT_FALSE(write_command_line(memory, std::string(layout::kCommandLineMax, 'a'), 0xffffffff));
}

TEST(CommandLineTest, NulIsRefusedWithItsPosition) {
  GuestMemory memory = guest_memory(2 * kMiB);
  auto refused = write_command_line(memory, std::string_view("quiet\0init=/bin/sh", 18), 2047);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("NUL character at position 5"));
}

TEST(CommandLineTest, AnEmptyOneReplacesWhatWasThere) {
  GuestMemory memory = guest_memory(2 * kMiB);
  ASSERT_TRUE(write_command_line(memory, "quiet", 2047));
  ASSERT_TRUE(write_command_line(memory, "", 2047));
  EXPECT_EQ(guest_bytes(memory, layout::kCommandLine, 1)[0], std::byte{0});
}

}  // namespace
}  // namespace balloon::vmm
