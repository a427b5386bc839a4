// SPDX-License-Identifier: Apache-2.0
#include "policy/reclaim.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

constexpr auto kMi = static_cast<double>(kMiB);

double part(const Excess& excess, Cost cost) { return excess[static_cast<std::size_t>(cost)] / kMi; }

TEST(Reclaim, SplitsAnExcessByWhatItCosts) {
  const Excess excess = split(1000 * kMiB, 700 * kMiB, 200 * kMiB, 100 * kMiB, Pressure::none);
  EXPECT_EQ(part(excess, Cost::free), 200);
  EXPECT_EQ(part(excess, Cost::cold), 400);
  EXPECT_EQ(part(excess, Cost::hot), 100);
  EXPECT_EQ(part(excess, Cost::anonymous), 300);
  EXPECT_EQ(part(split(10 * kMiB, 700 * kMiB, Bytes{0}, Bytes{0}, Pressure::pressed), Cost::pressed), 10);
}

TEST(Reclaim, StandsFiguresThatContradictEachOther) {
  const Excess excess = split(100 * kMiB, 50 * kMiB, 900 * kMiB, Bytes::max(), Pressure::none);
  double sum = 0;
  for (const double bytes : excess) {
    EXPECT_GE(bytes, 0);
    sum += bytes;
  }
  EXPECT_EQ(sum, 100 * kMi);
}

TEST(Reclaim, AsksWhoGivesCheapestFirst) {
  const Excess idle = split(300 * kMiB, 300 * kMiB, 300 * kMiB, Bytes{0}, Pressure::none);
  const Excess cached = split(300 * kMiB, 300 * kMiB, Bytes{0}, Bytes{0}, Pressure::none);
  const Excess pressed = split(300 * kMiB, Bytes{0}, Bytes{0}, Bytes{0}, Pressure::critical);
  Reclaim reclaim;
  for (const Excess& excess : {idle, cached, pressed}) reclaim.add(excess);
  reclaim.ask(200 * kMi, Cost::pressed);
  EXPECT_DOUBLE_EQ(reclaim.asked(idle), 200 * kMi);
  EXPECT_EQ(reclaim.asked(cached), 0);
  reclaim.ask(450 * kMi, Cost::pressed);
  EXPECT_DOUBLE_EQ(reclaim.asked(idle), 300 * kMi);
  EXPECT_DOUBLE_EQ(reclaim.asked(cached), 150 * kMi);
  EXPECT_EQ(reclaim.asked(pressed), 0);
  reclaim.ask(700 * kMi, Cost::anonymous);
  EXPECT_EQ(reclaim.asked(pressed), 0) << "not before the others have given";
  reclaim.ask(700 * kMi, Cost::pressed);
  EXPECT_DOUBLE_EQ(reclaim.asked(pressed), 100 * kMi);
}

TEST(Reclaim, SharesAPriceAmongAllWhoCanPayIt) {
  const Excess large = split(300 * kMiB, 300 * kMiB, 300 * kMiB, Bytes{0}, Pressure::none);
  const Excess small = split(100 * kMiB, 100 * kMiB, 100 * kMiB, Bytes{0}, Pressure::none);
  Reclaim reclaim;
  reclaim.add(large);
  reclaim.add(small);
  reclaim.ask(100 * kMi, Cost::free);
  EXPECT_DOUBLE_EQ(reclaim.asked(large), 75 * kMi);
  EXPECT_DOUBLE_EQ(reclaim.asked(small), 25 * kMi);
}

}  // namespace
}  // namespace balloon::policy
