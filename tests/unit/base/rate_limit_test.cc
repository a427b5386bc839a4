// SPDX-License-Identifier: Apache-2.0
#include "base/rate_limit.h"

#include <gtest/gtest.h>

namespace balloon {
namespace {

using namespace std::chrono_literals;

class RateLimitTest : public ::testing::Test {
 protected:
  int take(RateLimit& limit, const std::string& source, int times) {
    int taken = 0;
    for (int i = 0; i < times; ++i) taken += limit.take(source, now_, refused_) ? 1 : 0;
    return taken;
  }
  RateLimit::Time now_{};
  std::uint64_t refused_ = 0;
};

TEST_F(RateLimitTest, ASourceHasItsBurstAndThenItsRate) {
  RateLimit limit({.burst = 5, .per_second = 2}, {.burst = 1000, .per_second = 1000}, now_);
  EXPECT_EQ(take(limit, "a", 100), 5);
  now_ += 1s;
  EXPECT_EQ(take(limit, "a", 100), 2);
  now_ += 1h;
  EXPECT_EQ(take(limit, "a", 100), 5) << "what is not used is not saved up beyond the burst";
}

TEST_F(RateLimitTest, OneSourceDoesNotUseUpAnothers) {
  RateLimit limit({.burst = 5, .per_second = 0}, {.burst = 1000, .per_second = 0}, now_);
  take(limit, "a", 100);
  EXPECT_EQ(take(limit, "b", 100), 5);
}

TEST_F(RateLimitTest, AllSourcesTogetherAreBounded) {
  RateLimit limit({.burst = 5, .per_second = 0}, {.burst = 12, .per_second = 0}, now_);
  int taken = 0;
  for (int i = 0; i < 100; ++i) taken += take(limit, std::to_string(i), 5);
  EXPECT_EQ(taken, 12);
}

TEST_F(RateLimitTest, WhatWasRefusedIsToldAtTheNextThatIsNot) {
  RateLimit limit({.burst = 1, .per_second = 1}, {.burst = 1000, .per_second = 0}, now_);
  take(limit, "a", 8);
  now_ += 1s;
  EXPECT_EQ(take(limit, "a", 1), 1);
  EXPECT_EQ(refused_, 7U);
  now_ += 1s;
  take(limit, "a", 1);
  EXPECT_EQ(refused_, 0U);
}

TEST_F(RateLimitTest, SourcesWithoutEndShareOneAllowance) {
  RateLimit limit({.burst = 1, .per_second = 0}, {.burst = 1e9, .per_second = 0}, now_);
  int taken = 0;
  for (std::size_t i = 0; i < 3 * RateLimit::kSourcesMax; ++i) taken += take(limit, std::to_string(i), 1);
  EXPECT_EQ(taken, static_cast<int>(RateLimit::kSourcesMax) + 1);
}

TEST_F(RateLimitTest, SourcesThatAreQuietAreForgottenForNewOnes) {
  RateLimit limit({.burst = 1, .per_second = 1}, {.burst = 1e9, .per_second = 0}, now_);
  for (std::size_t i = 0; i < RateLimit::kSourcesMax; ++i) take(limit, std::to_string(i), 1);
  now_ += 10s;
  EXPECT_EQ(take(limit, "x", 1) + take(limit, "y", 1), 2) << "each has an allowance of its own";
}

}  // namespace
}  // namespace balloon
