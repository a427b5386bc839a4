// SPDX-License-Identifier: Apache-2.0
#include "policy/probing.h"

#include <gtest/gtest.h>

namespace balloon::policy {
namespace {

using std::chrono::seconds;

constexpr Time kNone{};

TEST(Probing, LeavesANewGuestInPeaceForAWhile) {
  Probing probing;
  probing.adopt(seconds(100), {});
  EXPECT_GT(probing.held_for(seconds(105)), kNone);
  EXPECT_EQ(probing.held_for(seconds(110)), kNone);
}

TEST(Probing, HoldsAfterAGrowth) {
  Probing probing;
  probing.adopt(seconds(0), {});
  probing.grown(seconds(100), {});
  EXPECT_EQ(probing.held_for(seconds(104)), seconds(6));
  EXPECT_EQ(probing.held_for(seconds(111)), kNone);
}

TEST(Probing, WaitsPastTheNextReturnOfALoadThatComesAndGoes) {
  Probing probing;
  probing.adopt(seconds(0), {});
  probing.grown(seconds(100), {});
  probing.shrunk();
  probing.grown(seconds(200), {});  // what was taken had to be given back
  EXPECT_GT(probing.held_for(seconds(300)), kNone) << "a load with a period of 100 s finds its memory again";
  EXPECT_EQ(probing.held_for(seconds(351)), kNone);
}

TEST(Probing, ForgetsOldMistakes) {
  Probing probing;
  probing.adopt(seconds(0), {});
  probing.grown(seconds(100), {});
  probing.shrunk();
  probing.grown(seconds(200), {});
  probing.shrunk();
  probing.grown(seconds(5000), {});
  EXPECT_EQ(probing.held_for(seconds(5011)), kNone);
}

TEST(Probing, NeverHoldsForLongerThanItsMaximum) {
  Probing probing;
  probing.adopt(seconds(0), {});
  Time now = seconds(100);
  for (int i = 0; i < 50; ++i) {
    probing.grown(now, {});
    probing.shrunk();
    ASSERT_LE(probing.held_for(now), Tunables{}.hold_max);
    now += seconds(1 + i * 13);
  }
}

TEST(Probing, IsNotHeldByAClockThatJumpsBack) {
  Probing probing;
  probing.adopt(seconds(100000), {});
  EXPECT_EQ(probing.held_for(seconds(5)), kNone);
}

}  // namespace
}  // namespace balloon::policy
