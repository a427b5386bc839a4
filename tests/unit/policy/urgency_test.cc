// SPDX-License-Identifier: Apache-2.0
#include "policy/urgency.h"

#include <gtest/gtest.h>

namespace balloon::policy {
namespace {

constexpr Bytes kMargin = 128 * kMiB;
constexpr double kRatio = 0.15;

TEST(Urgency, HalfOfTheMarginGoneIsUrgent) {
  EXPECT_TRUE(is_urgent({.actual = 512 * kMiB, .available = 63 * kMiB}, kMargin, kRatio));
  EXPECT_FALSE(is_urgent({.actual = 512 * kMiB, .available = 65 * kMiB}, kMargin, kRatio));
}

TEST(Urgency, TheMarginOfALargeGuestIsAPartOfItsUse) {
  EXPECT_TRUE(is_urgent({.actual = 8192 * kMiB, .available = 500 * kMiB}, kMargin, kRatio));
  EXPECT_FALSE(is_urgent({.actual = 8192 * kMiB, .available = 700 * kMiB}, kMargin, kRatio));
}

TEST(Urgency, AFastRiseIsUrgentWhereTheGuestHasNoRoomToDouble) {
  const UseSample rises{.actual = 1024 * kMiB, .available = 500 * kMiB, .used_before = 440 * kMiB};
  EXPECT_TRUE(is_urgent(rises, kMargin, kRatio));
  const UseSample has_room{.actual = 1224 * kMiB, .available = 700 * kMiB, .used_before = 440 * kMiB};
  EXPECT_FALSE(is_urgent(has_room, kMargin, kRatio));
}

TEST(Urgency, ASlowRiseOrAFallIsNot) {
  const UseSample slow{.actual = 1024 * kMiB, .available = 500 * kMiB, .used_before = 480 * kMiB};
  EXPECT_FALSE(is_urgent(slow, kMargin, kRatio));
  const UseSample falls{.actual = 1024 * kMiB, .available = 500 * kMiB, .used_before = 900 * kMiB};
  EXPECT_FALSE(is_urgent(falls, kMargin, kRatio));
}

TEST(Urgency, MoreAvailableThanThereIsCountsAsNothingUsed) {
  EXPECT_FALSE(is_urgent({.actual = 512 * kMiB, .available = Bytes::max()}, kMargin, kRatio));
  EXPECT_TRUE(is_urgent({.actual = {}, .available = {}}, kMargin, kRatio));
}

}  // namespace
}  // namespace balloon::policy
