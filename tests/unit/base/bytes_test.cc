// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <gtest/gtest.h>

namespace balloon {
namespace {

TEST(ParseBytes, ReadsPowersOf1024WithAndWithoutIb) {
  EXPECT_EQ(parse_bytes("512MiB"), 512 * kMiB);
  EXPECT_EQ(parse_bytes("2G"), 2 * kGiB);
  EXPECT_EQ(parse_bytes("1.5 gib"), kGiB + 512 * kMiB);
  EXPECT_EQ(parse_bytes("4096B"), 4096U);
  EXPECT_EQ(parse_bytes("0"), 0U);
}

TEST(ParseBytes, RefusesWhatIsNotASizeAndSaysWhy) {
  for (const char* text :
       {"", "G", "-1G", "12", "12X", "1e400G", "nan", "inf", "99999999T", "1 G B", "0x10M"}) {
    const auto result = parse_bytes(text);
    ASSERT_FALSE(result) << text;
    EXPECT_NE(result.error().message.find("is not a size"), std::string::npos) << result.error().message;
  }
}

TEST(FormatBytes, KeepsFourDigitsAtMost) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512 * kMiB), "512 MiB");
  EXPECT_EQ(format_bytes(kGiB + 512 * kMiB), "1.50 GiB");
  EXPECT_EQ(format_bytes(1023 * kMiB + 512 * kKiB), "1024 MiB");
  EXPECT_EQ(format_bytes(~0ULL), "16 EiB");
}

}  // namespace
}  // namespace balloon
