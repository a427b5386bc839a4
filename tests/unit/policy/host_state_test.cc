// SPDX-License-Identifier: Apache-2.0
#include "policy/host_state.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

constexpr Bytes kReserve = 400 * kMiB;

class HostStateTest : public testing::Test {
 protected:
  HostStateTest() {
    host_.total = 8 * kGiB;
    host_.available = 4 * kGiB;
  }
  HostState next() { return monitor_.update(host_, now_ += seconds(1), kReserve, {}); }
  /// `part` of the minimum that should be free.
  HostState with_free(double part) {
    host_.available = static_cast<Bytes>(part * static_cast<double>(minimum_free(host_, kReserve, {})));
    return next();
  }

  HostSnapshot host_;
  HostMonitor monitor_;
  Time now_ = seconds(100);
};

TEST_F(HostStateTest, GetsWorseAtEachThreshold) {
  EXPECT_EQ(with_free(1.2), HostState::normal);
  EXPECT_EQ(with_free(0.7), HostState::normal);
  EXPECT_EQ(with_free(0.6), HostState::tight);
  EXPECT_EQ(with_free(0.3), HostState::critical);
  EXPECT_EQ(with_free(0.1), HostState::emergency);
}

TEST_F(HostStateTest, GetsBetterOnlyPastTheNextMilderThreshold) {
  EXPECT_EQ(with_free(0.1), HostState::emergency);
  EXPECT_EQ(with_free(0.2), HostState::emergency) << "above 16 %, not above 32 %";
  EXPECT_EQ(with_free(0.4), HostState::critical);
  EXPECT_EQ(with_free(0.7), HostState::tight);
  EXPECT_EQ(with_free(0.9), HostState::tight);
  EXPECT_EQ(with_free(1.1), HostState::normal);
}

TEST_F(HostStateTest, DoesNotFlapAtAThreshold) {
  int changes = 0;
  HostState last = next();
  for (int i = 0; i < 100; ++i) {
    const HostState now = with_free(i % 2 == 0 ? 0.63 : 0.65);
    changes += now == last ? 0 : 1;
    last = now;
  }
  EXPECT_EQ(changes, 1);
}

TEST_F(HostStateTest, IsNormalWhileZfsCacheHoldsWhatIsMissing) {
  EXPECT_EQ(with_free(0.1), HostState::emergency);
  host_.arc = kGiB;
  EXPECT_EQ(next(), HostState::normal);
}

TEST_F(HostStateTest, NeverAsksForMoreThanTheReserveThatTheEngineKeeps) {
  EXPECT_LE(minimum_free(host_, kReserve, {}), kReserve);
  host_.total = 512 * kGiB;
  EXPECT_LE(minimum_free(host_, kReserve, {}), kReserve);
  EXPECT_EQ(minimum_free(host_, 80 * kMiB, {}), 80 * kMiB) << "the rest is lent";
  Tunables own;
  own.states.minimum_free = 2 * kGiB;
  EXPECT_EQ(minimum_free(host_, kReserve, own), 2 * kGiB);
}

TEST_F(HostStateTest, FollowsSwapTraffic) {
  next();
  const auto swap = [&](Bytes bytes) {
    host_.swap_in += bytes;
    return next();
  };
  EXPECT_EQ(swap(64 * kKiB), HostState::normal);
  swap(20 * kMiB);
  EXPECT_EQ(swap(20 * kMiB), HostState::tight);
  for (int i = 0; i < 10; ++i) swap(100 * kMiB);
  EXPECT_EQ(swap(100 * kMiB), HostState::critical);
  for (int i = 0; i < 30; ++i) next();
  EXPECT_EQ(next(), HostState::normal);
}

TEST_F(HostStateTest, FollowsPressureStallInformation) {
  host_.pressure_some = 0.12;
  EXPECT_EQ(next(), HostState::tight);
  host_.pressure_some = 0.07;
  EXPECT_EQ(next(), HostState::tight) << "half of the threshold has to be passed";
  host_.pressure_some = 0.04;
  EXPECT_EQ(next(), HostState::normal);
  host_.pressure_full = 0.2;
  EXPECT_EQ(next(), HostState::critical);
}

TEST_F(HostStateTest, StandsNonsense) {
  host_.pressure_some = std::nan("");
  host_.pressure_full = -1e300;
  EXPECT_EQ(next(), HostState::normal);
  host_.swap_in = Bytes::max();
  EXPECT_EQ(next(), HostState::normal);
  now_ -= seconds(1000);
  host_.swap_in = Bytes{5};
  EXPECT_EQ(next(), HostState::normal);
}

}  // namespace
}  // namespace balloon::policy
