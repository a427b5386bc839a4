// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/rate_limit.h"

#include <gtest/gtest.h>

namespace balloon::vmm {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

TEST(RateLimit, TheFirstTimeIsToldAtOnceAndTheRestCountedUntilThePeriodIsOver) {
  RateLimit limit;
  const RateLimit::Clock::time_point start{};
  EXPECT_EQ(limit.happened(start), 1U);
  EXPECT_EQ(limit.happened(start + 1ms), std::nullopt);
  EXPECT_EQ(limit.happened(start + RateLimit::kPeriod - 1ms), std::nullopt);
  EXPECT_EQ(limit.happened(start + RateLimit::kPeriod), 3U);
  EXPECT_EQ(limit.happened(start + RateLimit::kPeriod + 1s), std::nullopt);
}

}  // namespace
}  // namespace balloon::vmm
