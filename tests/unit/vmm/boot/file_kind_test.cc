// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/file_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace balloon::vmm {
namespace {

using namespace std::string_view_literals;
using ::testing::HasSubstr;

std::string describe(std::string_view content) {
  return describe_contents(std::as_bytes(std::span(content)));
}

TEST(FileKindTest, NamesWhatPeopleMistakeForAKernel) {
  EXPECT_THAT(describe("\x1f\x8b\x08\x00"sv), HasSubstr("gzip"));
  EXPECT_THAT(describe("\xfd"
                       "7zXZ\0\0"sv),
              HasSubstr("xz"));
  EXPECT_THAT(describe("\x28\xb5\x2f\xfd"sv), HasSubstr("zstd"));
  EXPECT_THAT(describe("\x02\x21\x4c\x18"sv), HasSubstr("lz4"));
  EXPECT_THAT(describe("070701000"sv), HasSubstr("initramfs"));
  EXPECT_THAT(describe("QFI\xfb\0\0"sv), HasSubstr("qcow2"));
  EXPECT_THAT(describe("#!/bin/sh\n"sv), HasSubstr("script"));
  EXPECT_THAT(describe("linux /vmlinuz root=/dev/vda1\n"sv), HasSubstr("text"));
  EXPECT_THAT(describe("\0\0\0\0"sv), HasSubstr("zeros"));
  EXPECT_THAT(describe("\x01\x02\x80"sv), HasSubstr("unknown data"));
}

TEST(FileKindTest, NamesKernelsOfOtherMachines) {
  std::string arm64(1024, '\0');
  arm64.replace(0, 2, "MZ");
  arm64.replace(0x38, 4, "ARM\x64");
  EXPECT_THAT(describe(arm64), HasSubstr("arm64"));
  std::string program(1024, '\0');
  program.replace(0, 2, "MZ");
  EXPECT_THAT(describe(program), HasSubstr("EFI or DOS program"));
}

TEST(FileKindTest, NamesABootSector) {
  std::string sector(1024, '\0');
  sector[510] = '\x55';
  sector[511] = '\xaa';
  EXPECT_THAT(describe(sector), HasSubstr("boot sector"));
}

}  // namespace
}  // namespace balloon::vmm
