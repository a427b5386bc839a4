// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/pfn_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace balloon::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<GuestRange> ranges_of(std::vector<std::uint32_t> pfns) {
  std::vector<GuestRange> ranges{{1, 1}};  // what an earlier batch left there
  to_ranges(pfns, ranges);
  return ranges;
}

TEST(PfnRanges, NothingMakesNoRange) { EXPECT_THAT(ranges_of({}), IsEmpty()); }

TEST(PfnRanges, DescendingPagesMakeOneRange) {  // the order in which Linux mostly sends them
  EXPECT_THAT(ranges_of({7, 6, 5, 4}), ElementsAre(GuestRange{4 * kPageSize, 4 * kPageSize}));
}

TEST(PfnRanges, APageSentTwiceCountsOnce) {
  EXPECT_THAT(ranges_of({9, 3, 9, 3, 9}),
              ElementsAre(GuestRange{3 * kPageSize, kPageSize}, GuestRange{9 * kPageSize, kPageSize}));
}

TEST(PfnRanges, PagesBeyondFourGigabytesKeepTheirAddress) {
  EXPECT_THAT(ranges_of({0x100000}), ElementsAre(GuestRange{0x100000000, kPageSize}));
  EXPECT_THAT(ranges_of({0xffffffff, 0xfffffffe}), ElementsAre(GuestRange{0xfffffffe000, 2 * kPageSize}));
}

TEST(PfnRanges, OnRandomInputTheRangesAreExactlyThePagesSortedAndApart) {
  std::mt19937 random(55);
  for (int round = 0; round < 1000; ++round) {
    // Few different pages make runs and repeats; many make lonely pages.
    const std::uint32_t span = 1U << (random() % 32);
    const std::uint32_t base = static_cast<std::uint32_t>(random());
    std::vector<std::uint32_t> pfns(random() % 300);
    for (std::uint32_t& pfn : pfns) pfn = base + static_cast<std::uint32_t>(random() % span);
    const std::set<std::uint32_t> expected(pfns.begin(), pfns.end());

    std::set<std::uint32_t> covered;
    std::uint64_t previous_end = 0;
    for (const GuestRange& range : ranges_of(pfns)) {
      ASSERT_EQ(range.start % kPageSize, 0U);
      ASSERT_EQ(range.size % kPageSize, 0U);
      ASSERT_GT(range.size, 0U);
      ASSERT_TRUE(covered.empty() || range.start > previous_end) << "ranges touch, overlap or descend";
      previous_end = range.start + range.size;
      for (GuestAddress page = range.start; page < previous_end; page += kPageSize) {
        covered.insert(static_cast<std::uint32_t>(page / kPageSize));
      }
    }
    ASSERT_EQ(covered, expected) << "round " << round;
  }
}

}  // namespace
}  // namespace balloon::vmm
