// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/feature_dependency.h"

#include <gtest/gtest.h>

#include <array>

namespace balloon::vmm {
namespace {

// 4 needs 2, 2 needs 1; 8 needs one of 1 and 16.
constexpr std::array kRules = {FeatureDependency{4, 2}, FeatureDependency{2, 1},
                               FeatureDependency{8, 1 | 16}};

TEST(FeatureDependencyTest, WhatIsNotThereNeedsNothing) { EXPECT_FALSE(unmet(kRules, 32)); }

TEST(FeatureDependencyTest, OneOfSeveralIsEnough) {
  EXPECT_FALSE(unmet(kRules, 8 | 16));
  EXPECT_FALSE(unmet(kRules, 8 | 1));
  EXPECT_EQ(unmet(kRules, 8)->feature, 8U);
}

TEST(FeatureDependencyTest, WhatLacksItsNeedsGoesAndWhatNeedsItToo) {
  EXPECT_EQ(without_unmet(kRules, 1 | 2 | 4), 7U);
  EXPECT_EQ(without_unmet(kRules, 2 | 4 | 8 | 16), 8U | 16);
}

}  // namespace
}  // namespace balloon::vmm
