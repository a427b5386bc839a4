// SPDX-License-Identifier: Apache-2.0
#include "balloond/needs/need_histogram.h"

#include <gtest/gtest.h>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

TEST(NeedHistogramTest, EverySizeIsAtMostSixPercentBelowItsBound) {
  for (Bytes bytes = 17 * kMiB; bytes < 64 * kTiB; bytes += bytes / 7) {
    const Bytes bound = NeedHistogram::bound(NeedHistogram::size_of(bytes));
    EXPECT_GE(bound, bytes);
    EXPECT_LE(static_cast<double>(bound), 1.0595 * static_cast<double>(bytes));
  }
  EXPECT_EQ(NeedHistogram::bound(NeedHistogram::size_of(2 * kGiB)), 2 * kGiB) << "powers of two are exact";
}

TEST(NeedHistogramTest, SmallAndAbsurdSizesHaveTheirPlace) {
  EXPECT_EQ(NeedHistogram::size_of(Bytes{0}), 0);
  EXPECT_EQ(NeedHistogram::size_of(Bytes::max()), NeedHistogram::kSizes - 1);
  EXPECT_EQ(NeedHistogram::bound(NeedHistogram::kSizes - 1), 64 * kTiB);
}

TEST(NeedHistogramTest, APercentileIsWhatWasEnoughForThatPartOfTheTime) {
  NeedHistogram needs;
  EXPECT_FALSE(needs.percentile(0.99)) << "nothing was seen";
  needs.add(kGiB, 95);
  needs.add(2 * kGiB, 4);
  needs.add(4 * kGiB, 1);
  EXPECT_EQ(needs.percentile(0.95), kGiB);
  EXPECT_EQ(needs.percentile(0.99), 2 * kGiB);
  EXPECT_EQ(needs.percentile(1), 4 * kGiB);
  EXPECT_EQ(needs.seconds(), 100U);
}

TEST(NeedHistogramTest, NoPercentileIsAboveTheMostThatWasNeeded) {
  NeedHistogram needs;
  needs.add(1000 * kMiB, 10);
  EXPECT_EQ(needs.percentile(0.5), 1000 * kMiB);
  EXPECT_EQ(needs.max(), 1000 * kMiB);
}

TEST(NeedHistogramTest, SumsAreAsIfAllHadBeenSeenByOne) {
  NeedHistogram one, other, both;
  one.add(kGiB, 5);
  other.add(3 * kGiB, 7);
  other.add(kGiB, 1);
  both.add(kGiB, 6);
  both.add(3 * kGiB, 7);
  one.add(other);
  EXPECT_EQ(one, both);
}

TEST(NeedHistogramTest, WhatMakesNoSenseIsNotTakenFromADisk) {
  NeedHistogram needs;
  needs.add(kGiB, 5);
  needs.add(2 * kGiB, 5);
  EXPECT_EQ(NeedHistogram::from(needs.buckets(), needs.max()), needs);
  EXPECT_FALSE(NeedHistogram::from({}, Bytes{0}));
  EXPECT_FALSE(NeedHistogram::from({{.size = 5, .seconds = 1}, {.size = 5, .seconds = 1}}, kGiB));
  EXPECT_FALSE(NeedHistogram::from({{.size = NeedHistogram::kSizes, .seconds = 1}}, kGiB));
  EXPECT_FALSE(NeedHistogram::from({{.size = 5, .seconds = 0}}, NeedHistogram::bound(5)));
  EXPECT_FALSE(NeedHistogram::from(needs.buckets(), 3 * kGiB)) << "more than its largest size";
}

}  // namespace
}  // namespace balloon::daemon
