// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/pace.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::daemon::qmp {
namespace {

using namespace std::chrono_literals;

TEST(Pace, ABalloonMovesUntilItHasStoodStillForAWhile) {
  Movement movement;
  EXPECT_FALSE(movement.note(kGiB, 10s)) << "the first look shows no change";
  EXPECT_FALSE(movement.moving(10s));
  EXPECT_TRUE(movement.note(kGiB - kMiB, 11s));
  EXPECT_FALSE(movement.note(kGiB - kMiB, 12s));
  EXPECT_TRUE(movement.moving(11s + kRestAfter - 1ns));
  EXPECT_FALSE(movement.moving(11s + kRestAfter));
}

TEST(Pace, AGuestIsLivelyWhenItsMemoryIsNearlyUsedUpOrMuchHasChanged) {
  EXPECT_FALSE(is_lively(kGiB, std::nullopt, kGiB)) << "it does not say";
  EXPECT_FALSE(is_lively(kGiB, 500 * kMiB, std::nullopt));
  EXPECT_FALSE(is_lively(kGiB, 500 * kMiB, 520 * kMiB));
  EXPECT_TRUE(is_lively(kGiB, 500 * kMiB, 560 * kMiB)) << "it took much";
  EXPECT_TRUE(is_lively(kGiB, 560 * kMiB, 500 * kMiB)) << "it gave much";
  EXPECT_TRUE(is_lively(kGiB, 100 * kMiB, 100 * kMiB)) << "little is left";
}

}  // namespace
}  // namespace balloon::daemon::qmp
