// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/turn_budget.h"

#include <gtest/gtest.h>

namespace balloon::vmm {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""ns;

constexpr TurnBudget::Clock::time_point kStart{1ms};

TEST(TurnBudget, IsOverAfter32Chains) {
  TurnBudget budget(kStart);
  for (int i = 0; i < 32; ++i) {
    EXPECT_FALSE(budget.over()) << i;
    budget.take_chain();
  }
  EXPECT_TRUE(budget.over());
  budget.take_chain();
  EXPECT_TRUE(budget.over());
}

TEST(TurnBudget, IsOverAfter256KiBUnlessItIsMadeForMore) {
  TurnBudget budget(kStart);
  budget.spend(256 * kKiB - Bytes{1});
  EXPECT_FALSE(budget.over());
  budget.spend(Bytes{1});
  EXPECT_TRUE(budget.over());
  TurnBudget larger(kStart, kMiB);
  larger.spend(kMiB - Bytes{1});
  EXPECT_FALSE(larger.over());
  larger.spend(kGiB);
  EXPECT_TRUE(larger.over()) << "and no less over for one piece larger than all of it";
}

TEST(TurnBudget, IsOverAfterTwoMillisecondsOnceItLooksAtTheClock) {
  TurnBudget budget(kStart);
  budget.look_at_clock(kStart + 2ms - 1ns);
  EXPECT_FALSE(budget.over());
  budget.look_at_clock(kStart + 2ms);
  EXPECT_TRUE(budget.over());
  budget.look_at_clock(kStart);
  EXPECT_TRUE(budget.over()) << "it stays so";
}

}  // namespace
}  // namespace balloon::vmm
