// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/token_bucket.h"

#include <gtest/gtest.h>

namespace balloon::vmm {
namespace {

using std::chrono_literals::operator""h;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""ns;
using std::chrono_literals::operator""s;

constexpr TokenBucket::Clock::time_point kStart{1h};

/// Time is counted in doubles: a wait is right to the microsecond.
void expect_about(std::chrono::nanoseconds actual, std::chrono::nanoseconds expected) {
  EXPECT_GE(actual, expected);
  EXPECT_LE(actual, expected + 1000ns);
}

TEST(TokenBucket, WithoutARateItNeverLimits) {
  TokenBucket bucket;
  EXPECT_FALSE(bucket.limits());
  bucket.spend(1'000'000);
  EXPECT_EQ(bucket.wait(kStart), 0ns);
  EXPECT_FALSE(TokenBucket(0, 10).limits());
}

TEST(TokenBucket, ABurstGoesAtOnceAndThenOneTokenAtATime) {
  TokenBucket bucket(100, 10);
  EXPECT_TRUE(bucket.limits());
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(bucket.wait(kStart), 0ns) << i;
    bucket.spend(1);
  }
  expect_about(bucket.wait(kStart), 10ms);
  bucket.spend(1);
  expect_about(bucket.wait(kStart), 20ms);
  expect_about(bucket.wait(kStart + 4ms), 16ms);
  EXPECT_EQ(bucket.wait(kStart + 11ms), 0ns) << "any part of a token will do for who did not wait";
}

TEST(TokenBucket, WhatIsSpentBeyondTheBurstIsPaidBeforeTheNextRequest) {
  TokenBucket bucket(100, 10);
  EXPECT_EQ(bucket.wait(kStart), 0ns);
  bucket.spend(110);
  expect_about(bucket.wait(kStart), 1010ms);
  expect_about(bucket.wait(kStart + 1s), 10ms);
}

TEST(TokenBucket, NoMoreThanTheBurstGathers) {
  TokenBucket bucket(100, 10);
  bucket.spend(10);
  EXPECT_GT(bucket.wait(kStart), 0ns);
  EXPECT_EQ(bucket.wait(kStart + 1h), 0ns);
  bucket.spend(10);
  expect_about(bucket.wait(kStart + 1h), 10ms);
}

TEST(TokenBucket, TheTimeBeforeTheFirstRequestPaysNothing) {
  TokenBucket bucket(100, 10);
  bucket.spend(20);
  expect_about(bucket.wait(kStart), 110ms);
}

TEST(TokenBucket, ABurstIsATenthOfASecondsTokensUnlessItIsGivenAndAtLeastOne) {
  TokenBucket bucket(1000);
  bucket.spend(99);
  EXPECT_EQ(bucket.wait(kStart), 0ns);
  bucket.spend(1);
  expect_about(bucket.wait(kStart), 1ms);
  TokenBucket slow(5);
  EXPECT_EQ(slow.wait(kStart), 0ns);
  slow.spend(1);
  expect_about(slow.wait(kStart), 200ms);
}

TEST(TokenBucket, WhoWaitsLongLooksAgainEachMinute) {
  TokenBucket bucket(1, 1);
  bucket.spend(1'000'000);
  expect_about(bucket.wait(kStart), 60s);
}

}  // namespace
}  // namespace balloon::vmm
