// SPDX-License-Identifier: Apache-2.0
#include "policy/levels.h"

#include <gtest/gtest.h>

#include <random>

namespace balloon::policy {
namespace {

bool in_order(const Levels& levels) {
  for (std::size_t i = 1; i < kLevels; ++i) {
    if (levels[static_cast<Level>(i)] < levels[static_cast<Level>(i - 1)]) return false;
  }
  return true;
}

TEST(Levels, AreInOrderWhateverTheyAreMadeFrom) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10'000; ++i) {
    Levels::Sizes sizes;
    for (Bytes& size : sizes) size = random() >> random() % 64;
    const Levels levels(sizes);
    ASSERT_TRUE(in_order(levels));
    ASSERT_TRUE(in_order(levels.at_most(random() >> random() % 64)));
    ASSERT_TRUE(in_order(levels.at_least(random() >> random() % 64)));
    Levels both = levels;
    both += levels.at_least(random());
    ASSERT_TRUE(in_order(both)) << "sums do not wrap";
  }
}

TEST(Levels, AreRaisedToTheOneBefore) {
  const Levels levels({100, 50, 200, 0, 300, 250, 0, 400});
  EXPECT_EQ(levels[Level::minimum], 100U);
  EXPECT_EQ(levels[Level::working_set], 100U);
  EXPECT_EQ(levels[Level::need], 200U);
  EXPECT_EQ(levels[Level::claim], 200U);
  EXPECT_EQ(levels[Level::peak], 300U);
  EXPECT_EQ(levels[Level::cache], 300U);
  EXPECT_EQ(levels[Level::wanted], 300U);
  EXPECT_EQ(levels[Level::maximum], 400U);
}

TEST(Levels, AreBoundedFromAboveAndBelow) {
  const Levels levels({100, 200, 300, 400, 500, 600, 700, 800});
  EXPECT_EQ(levels.at_most(350), Levels({100, 200, 300, 350, 350, 350, 350, 350}));
  EXPECT_EQ(levels.at_least(350), Levels({350, 350, 350, 400, 500, 600, 700, 800}));
}

TEST(Levels, OfOneThatCannotBeMovedAreAllTheSame) {
  EXPECT_EQ(Levels::all_at(300), Levels({300, 300, 300, 300, 300, 300, 300, 300}));
}

}  // namespace
}  // namespace balloon::policy
