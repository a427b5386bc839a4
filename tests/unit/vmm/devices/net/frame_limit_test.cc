// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/frame_limit.h"

#include <gtest/gtest.h>

#include <chrono>

namespace balloon::vmm {
namespace {

using std::chrono_literals::operator""h;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""ns;

constexpr TokenBucket::Clock::time_point kStart{1h};

TEST(FrameLimit, WithoutARateNothingWaits) {
  FrameLimit limit{NetRate{}};
  EXPECT_FALSE(limit.limits());
  limit.spend(1'000'000);
  EXPECT_EQ(limit.wait(kStart), 0ns);
}

TEST(FrameLimit, BytesOrFramesHoldItBackWhicheverIsReachedFirst) {
  const NetRate rate{.bytes = Bytes{1000}, .bytes_burst = Bytes{1000}, .frames = 10, .frames_burst = 2};
  FrameLimit small(rate);
  EXPECT_TRUE(small.limits());
  small.spend(10);
  EXPECT_EQ(small.wait(kStart), 0ns);
  small.spend(10);
  EXPECT_EQ(std::chrono::round<std::chrono::milliseconds>(small.wait(kStart)), 100ms)
      << "two frames of a burst of two";
  FrameLimit large(rate);
  large.spend(1499);
  EXPECT_EQ(std::chrono::round<std::chrono::milliseconds>(large.wait(kStart)), 500ms)
      << "bytes beyond their burst";
}

}  // namespace
}  // namespace balloon::vmm
