// SPDX-License-Identifier: Apache-2.0
#include "policy/reserve.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

/// A host of 16 GiB whose own use is 600 MiB, and guests on it.
class ReserveTest : public testing::Test {
 protected:
  ReserveTest() { host_.total = 16 * kGiB; }
  /// The reserve after so many seconds, in MiB.
  double after(int seconds) {
    constexpr auto kMib = static_cast<double>(kMiB);
    double reserve = 0;
    for (int second = 0; second < seconds; ++second)
      reserve = reserve_.update(host_, {.own = own_ * kMib, .spare = spare_ * kMib}, guests_, 1, tunables_);
    return reserve / kMib;
  }
  double least() const { return 0.005 * 16 * 1024; }

  HostSnapshot host_;
  double own_ = 600;
  double spare_ = 1000;
  GuestsInWant guests_;
  Tunables tunables_;
  Reserve reserve_;
};

TEST_F(ReserveTest, IsKeptWhileNobodyHurts) { EXPECT_EQ(after(300), 400); }

TEST_F(ReserveTest, IsSixPercentOfASmallHost) {
  host_.total = 2 * kGiB;
  EXPECT_NEAR(after(1), 0.06 * 2048, 0.01);
}

TEST_F(ReserveTest, IsWhatPolicyStatesHoweverSmallTheHost) {
  host_.total = 2 * kGiB;
  tunables_.reserve_kept_ratio = 1;
  EXPECT_EQ(after(1), 400);
}

TEST_F(ReserveTest, IsLentToGuestsThatHurtWhileTheHostsOwnUseIsSteady) {
  guests_.any = true;
  EXPECT_NEAR(after(1), least(), 1e-6);
}

TEST_F(ReserveTest, IsKeptInPartHoweverSmallTheHost) {
  host_.total = 4 * kGiB;
  guests_.any = true;
  EXPECT_EQ(after(1), 64);
}

TEST_F(ReserveTest, IsWantedBackAtOnceWhenTheHostsOwnUseRises) {
  guests_.any = true;
  after(100);
  own_ += 60;
  EXPECT_NEAR(after(1), least(), 1e-6) << "page tables, and other small change";
  own_ += 200;
  EXPECT_EQ(after(1), 400);
  EXPECT_EQ(after(59), 400) << "what rose may rise again";
  EXPECT_NEAR(after(2), least(), 1e-6);
}

TEST_F(ReserveTest, ComesBackByHalfInTwoMinutesOnceNobodyHurts) {
  guests_.any = true;
  after(100);
  guests_.any = false;
  EXPECT_NEAR(after(120), (400 + least()) / 2, 1);
}

TEST_F(ReserveTest, LeavesLentWhatWasLentBeforeARestart) {
  spare_ = 150;
  EXPECT_LT(after(1), least() + 3);
  EXPECT_GT(after(600), 380) << "nobody hurts";
}

TEST_F(ReserveTest, CoversWhatGuestsThatAreNotMovedMayYetTouch) {
  guests_ = {.any = true, .untouched = 300 * kMiB};
  EXPECT_NEAR(after(100), 300, 1e-6);
  guests_.untouched = 4 * kGiB;
  EXPECT_EQ(after(100), 400) << "no more than the reserve";
}

TEST_F(ReserveTest, IsNotLentWherePolicySaysWhatItIs) {
  guests_.any = true;
  tunables_.reserve_kept_ratio = 1;
  EXPECT_EQ(after(100), 400);
}

}  // namespace
}  // namespace balloon::policy
