#include "policy/targets.h"

#include <gtest/gtest.h>

#include "one_decision.h"

namespace balloon::policy {
namespace {

/// One guest's target and reason, with `ratio` of what is beyond claims free.
GuestPlan planned(const OneGuest& guest, double ratio = 1) {
  OneDecision one(8192);
  one.decision.plan.state = HostState::normal;
  one.add(guest);
  one.decision.surplus_ratio = ratio;
  set_targets(one.decision);
  return one.decision.plan.guests[0];
}

TEST(Targets, AGuestIsGrownToItsShareOnceItHasTooLittle) {
  const OneGuest guest{.size = 500, .share = 700, .need = 700, .claim = 700, .grow_below = 600};
  EXPECT_EQ(planned(guest).target, 700 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::need);
}

TEST(Targets, AGuestWithEnoughOfItsMarginIsNotGrown) {
  const OneGuest guest{.size = 650, .share = 700, .need = 700, .claim = 700, .grow_below = 600};
  EXPECT_EQ(planned(guest).target, 650 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::deadband);
}

TEST(Targets, APressedGuestIsGrownByAQuarterOfTheDeadband) {
  OneGuest guest{.size = 696, .share = 700, .need = 700, .claim = 700, .pressure = Pressure::pressed};
  EXPECT_EQ(planned(guest).target, 700 * kMiB);
  guest.size = 697;
  EXPECT_EQ(planned(guest).target, 697 * kMiB);
}

TEST(Targets, APressedGuestIsGrownBySixteenMiBHoweverBigItIs) {
  OneGuest guest{.size = 684, .share = 700, .need = 700, .claim = 700, .deadband = 900};
  guest.pressure = Pressure::pressed;
  EXPECT_EQ(planned(guest).target, 700 * kMiB) << "16 MiB are worth a change, not a quarter of 900";
  guest.size = 685;
  EXPECT_EQ(planned(guest).target, 685 * kMiB);
  guest.size = 684;
  guest.pressure = Pressure::none;
  guest.grow_below = 690;
  EXPECT_EQ(planned(guest).target, 684 * kMiB) << "without pressure its own deadband counts";
}

TEST(Targets, WhatIsBeyondAClaimComesOutOfWhatIsFree) {
  const OneGuest guest{.size = 500, .share = 900, .need = 500, .claim = 500};
  EXPECT_EQ(planned(guest, 1).target, 900 * kMiB);
  EXPECT_EQ(planned(guest, 0.5).target, 700 * kMiB);
  EXPECT_EQ(planned(guest, 0.1).target, 500 * kMiB) << "less than an eighth of its size is no hurry";
}

TEST(Targets, IdleMemoryIsProbedStepByStep) {
  const OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600};
  const GuestPlan plan = planned(guest);
  EXPECT_EQ(plan.reason, Reason::rate_limit);
  EXPECT_NEAR(static_cast<double>(plan.target), (2000 - 0.05 * 4096) * kMiB, kMiB)
      << "a twentieth of its boot memory a second";
  EXPECT_EQ(plan.why.otherwise.condition, Condition::time);
}

TEST(Targets, APressedGuestIsHeldWhileNobodyAsksForItsMemory) {
  const OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600, .pressure = Pressure::pressed};
  EXPECT_EQ(planned(guest).target, 2000 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::hold);
}

}  // namespace
}  // namespace balloon::policy
