// SPDX-License-Identifier: Apache-2.0
#include "policy/levels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace balloon::policy {
namespace {

/// By level, in bytes.
Levels of(const std::array<std::uint64_t, kLevels>& counts) {
  Levels::Sizes sizes;
  std::ranges::transform(counts, sizes.begin(), [](std::uint64_t count) { return Bytes{count}; });
  return Levels(sizes);
}

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
    for (Bytes& size : sizes) size = Bytes{random() >> random() % 64};
    const Levels levels(sizes);
    ASSERT_TRUE(in_order(levels));
    ASSERT_TRUE(in_order(levels.at_most(Bytes{random() >> random() % 64})));
    ASSERT_TRUE(in_order(levels.at_least(Bytes{random() >> random() % 64})));
    Levels both = levels;
    both += levels.at_least(Bytes{random()});
    ASSERT_TRUE(in_order(both)) << "sums do not wrap";
  }
}

TEST(Levels, AreRaisedToTheOneBefore) {
  const Levels levels = of({100, 50, 200, 0, 300, 250, 0, 400});
  EXPECT_EQ(levels[Level::minimum], Bytes{100});
  EXPECT_EQ(levels[Level::working_set], Bytes{100});
  EXPECT_EQ(levels[Level::need], Bytes{200});
  EXPECT_EQ(levels[Level::claim], Bytes{200});
  EXPECT_EQ(levels[Level::peak], Bytes{300});
  EXPECT_EQ(levels[Level::cache], Bytes{300});
  EXPECT_EQ(levels[Level::wanted], Bytes{300});
  EXPECT_EQ(levels[Level::maximum], Bytes{400});
}

TEST(Levels, AreBoundedFromAboveAndBelow) {
  const Levels levels = of({100, 200, 300, 400, 500, 600, 700, 800});
  EXPECT_EQ(levels.at_most(Bytes{350}), of({100, 200, 300, 350, 350, 350, 350, 350}));
  EXPECT_EQ(levels.at_least(Bytes{350}), of({350, 350, 350, 400, 500, 600, 700, 800}));
}

TEST(Levels, OfOneThatCannotBeMovedAreAllTheSame) {
  EXPECT_EQ(Levels::all_at(Bytes{300}), of({300, 300, 300, 300, 300, 300, 300, 300}));
}

}  // namespace
}  // namespace balloon::policy
