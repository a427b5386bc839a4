// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/huge_release.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "tests/unit/vmm/address_literals.h"

namespace balloon::vmm {

void PrintTo(const GuestRange& range, std::ostream* out) {
  *out << std::hex << range.start << "+" << range.size;
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class HugeReleaseTest : public testing::Test {
 protected:
  /// Releases all that is held.
  void flush() {
    while (held_.release_some()) {
    }
  }
  std::vector<GuestRange> released_;
  HugeRelease held_{[this](GuestRange range) { released_.push_back(range); }};
};

TEST_F(HugeReleaseTest, ReleasesTwoHalvesInOneCall) {
  held_.add({5 * kHugePageSize + 1_MiB, 1_MiB});
  EXPECT_THAT(released_, IsEmpty());
  held_.add({5 * kHugePageSize, 1_MiB});
  held_.release_run();
  EXPECT_THAT(released_, ElementsAre(GuestRange{5 * kHugePageSize, kHugePageSize}));
  EXPECT_EQ(held_.held(), 0U);
}

TEST_F(HugeReleaseTest, GathersScatteredPages) {
  for (std::uint64_t page = 0; page < 512; page += 2) held_.add({page * kPageSize, kPageSize});
  EXPECT_THAT(released_, IsEmpty());
  for (std::uint64_t page = 1; page < 512; page += 2) held_.add({page * kPageSize, kPageSize});
  held_.release_run();
  EXPECT_THAT(released_, ElementsAre(GuestRange{0, kHugePageSize}));
}

TEST_F(HugeReleaseTest, ReleasesWholeHugePagesOfALongRangeAtOnceAndHoldsItsEnds) {
  held_.add({1_MiB, 4_MiB});
  held_.release_run();
  EXPECT_THAT(released_, ElementsAre(GuestRange{2_MiB, 2_MiB}));
  flush();
  EXPECT_THAT(released_,
              ElementsAre(GuestRange{2_MiB, 2_MiB}, GuestRange{1_MiB, 1_MiB}, GuestRange{4_MiB, 1_MiB}));
  EXPECT_EQ(held_.held(), 0U);
}

TEST_F(HugeReleaseTest, ReleasesNeighboursInOneCallUpToALimit) {
  constexpr std::uint64_t kPages = HugeRelease::kRun / kHugePageSize;
  for (std::uint64_t page = kPages - 1; page > 0; --page) held_.add({page * kHugePageSize, kHugePageSize});
  EXPECT_THAT(released_, IsEmpty()) << "there may be more";
  EXPECT_EQ(held_.held(), (kPages - 1) * kHugePageSize);
  held_.add({0, kHugePageSize});
  EXPECT_THAT(released_, ElementsAre(GuestRange{0, HugeRelease::kRun}));
  held_.add({10 * HugeRelease::kRun, kHugePageSize});
  held_.add({20 * HugeRelease::kRun, kHugePageSize});
  EXPECT_EQ(released_.size(), 2U) << "one that lies elsewhere ends a run";
  EXPECT_EQ(held_.held(), kHugePageSize);
}

TEST_F(HugeReleaseTest, TakesBackTheMiddleOfARun) {
  held_.add({0, 3 * kHugePageSize});
  held_.cancel({kHugePageSize + kPageSize, kPageSize});
  EXPECT_THAT(released_,
              ElementsAre(GuestRange{0, kHugePageSize + kPageSize},
                          GuestRange{kHugePageSize + 2 * kPageSize, 2 * kHugePageSize - 2 * kPageSize}));
  EXPECT_EQ(held_.held(), 0U);
}

TEST_F(HugeReleaseTest, DoesNotReleaseWhatTheGuestTookBack) {
  held_.add({0, 1_MiB});
  held_.cancel({4 * kPageSize, 2 * kPageSize});
  flush();
  EXPECT_THAT(released_,
              ElementsAre(GuestRange{0, 4 * kPageSize}, GuestRange{6 * kPageSize, 1_MiB - 6 * kPageSize}));
}

TEST_F(HugeReleaseTest, HoldsABoundedNumberOfHugePages) {
  for (std::uint64_t i = 0; i <= HugeRelease::kMostHugePages; ++i) held_.add({i * kHugePageSize, kPageSize});
  EXPECT_THAT(released_, ElementsAre(GuestRange{0, kPageSize})) << "the oldest gives way";
}

TEST_F(HugeReleaseTest, HoldsABoundedNumberOfBytes) {
  for (std::uint64_t i = 0; i <= HugeRelease::kMostHeld / 1_MiB; ++i) held_.add({i * kHugePageSize, 1_MiB});
  EXPECT_THAT(released_, ElementsAre(GuestRange{0, 1_MiB}));
  EXPECT_EQ(held_.held(), HugeRelease::kMostHeld);
}

TEST_F(HugeReleaseTest, ForgetsWhatIsDropped) {
  held_.add({0, 1_MiB});
  held_.drop();
  flush();
  EXPECT_THAT(released_, IsEmpty());
}

TEST_F(HugeReleaseTest, ReleasesJustThePagesThatWereGivenAndNotTakenBackInAnyOrder) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    released_.clear();
    std::set<std::uint64_t> given;
    std::set<std::uint64_t> freed_before_cancel;
    for (int step = 0; step < 40; ++step) {
      const GuestRange range{random() % 4096 * kPageSize, (random() % 700 + 1) * kPageSize};
      const std::size_t before = released_.size();
      if (random() % 4 != 0) {
        held_.add(range);
        for (std::uint64_t page = range.start; page < range.start + range.size; page += kPageSize)
          given.insert(page);
      } else {
        // Pages that are released already stay released; the others must not be.
        std::set<std::uint64_t> done;
        for (const auto& one : released_)
          for (std::uint64_t page = one.start; page < one.start + one.size; page += kPageSize)
            done.insert(page);
        held_.cancel(range);
        for (std::uint64_t page = range.start; page < range.start + range.size; page += kPageSize)
          if (!done.contains(page)) given.erase(page);
      }
      for (std::size_t i = before; i < released_.size(); ++i)
        for (std::uint64_t page = released_[i].start; page < released_[i].start + released_[i].size;
             page += kPageSize)
          ASSERT_TRUE(given.contains(page)) << "released a page that the guest has";
    }
    flush();
    ASSERT_EQ(held_.held(), 0U);
    std::set<std::uint64_t> done;
    for (const auto& one : released_)
      for (std::uint64_t page = one.start; page < one.start + one.size; page += kPageSize) done.insert(page);
    ASSERT_TRUE(std::ranges::includes(done, given)) << "a page that was given is not released";
  }
}

}  // namespace
}  // namespace balloon::vmm
