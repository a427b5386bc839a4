// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace balloon::vmm {
namespace {

using ::testing::Each;
using ::testing::Eq;

void append(std::vector<std::byte>& buffer, std::uint16_t tag, std::uint64_t value) {
  buffer.resize(buffer.size() + kStatEntrySize);
  std::memcpy(buffer.data() + buffer.size() - kStatEntrySize, &tag, sizeof tag);
  std::memcpy(buffer.data() + buffer.size() - sizeof value, &value, sizeof value);
}

TEST(Stats, AnEmptyBufferHasNoValue) { EXPECT_THAT(parse_stats({}), Each(Eq(std::nullopt))); }

TEST(Stats, AllSixteenTagsOfLinux612AreRead) {
  std::vector<std::byte> buffer;
  for (std::uint16_t tag = 0; tag < kStatTags; ++tag) append(buffer, tag, 1000ULL + tag);
  const auto values = parse_stats(buffer);
  for (std::uint16_t tag = 0; tag < kStatTags; ++tag) EXPECT_EQ(values[tag], 1000ULL + tag);
  EXPECT_EQ(values[static_cast<std::size_t>(StatTag::direct_reclaims)], 1015U);
}

TEST(Stats, AnyOrderAndAnySubsetIsRead) {
  std::vector<std::byte> buffer;
  append(buffer, static_cast<std::uint16_t>(StatTag::available_memory), 5);
  append(buffer, static_cast<std::uint16_t>(StatTag::swap_in), 6);
  const auto values = parse_stats(buffer);
  EXPECT_EQ(values[static_cast<std::size_t>(StatTag::available_memory)], 5U);
  EXPECT_EQ(values[static_cast<std::size_t>(StatTag::swap_in)], 6U);
  EXPECT_EQ(values[static_cast<std::size_t>(StatTag::free_memory)], std::nullopt);
}

TEST(Stats, UnknownTagsAreIgnored) {
  std::vector<std::byte> buffer;
  append(buffer, 16, 1);
  append(buffer, 65534, 2);
  append(buffer, 65535, 3);
  EXPECT_THAT(parse_stats(buffer), Each(Eq(std::nullopt)));
}

TEST(Stats, OfATagThatComesTwiceTheLastCounts) {
  std::vector<std::byte> buffer;
  append(buffer, 4, 1);
  append(buffer, 4, 2);
  EXPECT_EQ(parse_stats(buffer)[4], 2U);
}

TEST(Stats, ATornLastEntryIsIgnored) {
  std::vector<std::byte> buffer;
  append(buffer, 4, 1);
  append(buffer, 5, 2);
  for (std::size_t size = kStatEntrySize; size < 2 * kStatEntrySize; ++size) {
    const auto values = parse_stats(std::span(buffer).first(size));
    EXPECT_EQ(values[4], 1U);
    EXPECT_EQ(values[5], std::nullopt) << size;
  }
  EXPECT_THAT(parse_stats(std::span(buffer).first(9)), Each(Eq(std::nullopt)));
}

TEST(Stats, ExtremeValuesArePassedOnAsSent) {
  std::vector<std::byte> buffer;
  append(buffer, 4, ~0ULL);
  EXPECT_EQ(parse_stats(buffer)[4], ~0ULL);
}

TEST(Stats, RandomBytesNeverHarm) {
  std::mt19937 random(7);
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::byte> buffer(random() % 200);
    for (std::byte& byte : buffer) byte = static_cast<std::byte>(random() % 20);
    parse_stats(buffer);
  }
}

}  // namespace
}  // namespace balloon::vmm
