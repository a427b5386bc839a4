// SPDX-License-Identifier: Apache-2.0
#include "policy/recording/wire.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "policy/rate.h"

namespace balloon::policy::recording {
namespace {

TEST(WireTest, TheChecksumIsThatOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
}

TEST(WireTest, EveryNumberComesBack) {
  std::mt19937_64 random(1);
  std::string out;
  std::vector<std::uint64_t> numbers{0, 1, 63, 64, 127, 128, 4096, ~0ULL, 1ULL << 63, (1ULL << 63) - 1};
  for (int i = 0; i < 10'000; ++i) numbers.push_back(random() >> (random() % 64));
  for (const std::uint64_t number : numbers) {
    put_varint(out, number);
    put_difference(out, number, 4096);
    put_difference(out, 0 - number, 1000);
    put_difference(out, number * 4096, 4096);
  }
  Input in(out);
  for (const std::uint64_t number : numbers) {
    ASSERT_EQ(in.varint(), number);
    ASSERT_EQ(in.difference(4096), number);
    ASSERT_EQ(in.difference(1000), 0 - number);
    ASSERT_EQ(in.difference(4096), number * 4096);
  }
  EXPECT_TRUE(in.good());
  EXPECT_TRUE(in.at_end());
}

TEST(WireTest, SmallDifferencesOfEitherSignAndWholePagesTakeAByte) {
  for (const std::uint64_t difference : {1ULL, 0 - 1ULL, 31ULL, 4096ULL, 0 - 8 * 4096ULL}) {
    std::string out;
    put_difference(out, difference, 4096);
    EXPECT_EQ(out.size(), 1U) << difference;
  }
}

TEST(WireTest, WhatIsCutOffOrTooLargeIsRefused) {
  const char* const cut[] = {"", "\x80", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"};
  for (const char* text : cut) {
    Input in(text);
    in.varint();
    EXPECT_FALSE(in.good());
  }
  Input count(
      "\x7f"
      "abc");
  EXPECT_EQ(count.count(), 0U) << "more things than there are bytes";
  EXPECT_FALSE(count.good());
  Input text(
      "\x04"
      "abc");
  EXPECT_EQ(text.text(), "");
  EXPECT_FALSE(text.good());
}

TEST(RateTest, APowerOfTwoIsExactToAFewUnitsInTheLastPlaceAndStandsAnything) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 100'000; ++i) {
    const double x = -std::ldexp(static_cast<double>(random() >> 11), -44);
    ASSERT_NEAR(power_of_two(x) / std::exp2(x), 1, 1e-15) << x;
  }
  EXPECT_EQ(power_of_two(0), 1);
  EXPECT_EQ(power_of_two(-1), 0.5);
  EXPECT_EQ(power_of_two(10), 1024);
  EXPECT_EQ(power_of_two(-1e300), 0);
  EXPECT_EQ(power_of_two(std::numeric_limits<double>::quiet_NaN()), 0);
  EXPECT_TRUE(std::isinf(power_of_two(1e300)));
}

}  // namespace
}  // namespace balloon::policy::recording
