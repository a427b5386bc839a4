// SPDX-License-Identifier: Apache-2.0
#include "policy/targets.h"

#include <gtest/gtest.h>

#include "one_decision.h"
#include "policy/donors.h"
#include "tests/unit/policy/mib.h"

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
  EXPECT_NEAR(mib(plan.target), 2000 - 0.05 * 4096, 1) << "a twentieth of its boot memory a second";
  EXPECT_EQ(plan.why.otherwise.condition, Condition::time);
}

TEST(Targets, APressedGuestIsHeldWhileNobodyAsksForItsMemory) {
  const OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600, .pressure = Pressure::pressed};
  EXPECT_EQ(planned(guest).target, 2000 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::hold);
}

TEST(Targets, AGuestIsNotGrownForLessThanItsDeadband) {
  OneGuest guest{.size = 500, .share = 516, .need = 516, .claim = 516, .grow_below = 510};
  EXPECT_EQ(planned(guest).target, 516 * kMiB);
  guest.share = guest.need = guest.claim = 515;
  EXPECT_EQ(planned(guest).target, 500 * kMiB);
}

TEST(Targets, AGuestIsGrownForACacheByAnEighthOfItsSize) {
  OneGuest guest{.size = 800, .share = 900, .need = 700, .claim = 700};
  EXPECT_EQ(planned(guest).target, 900 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::surplus);
  guest.share = 899;
  EXPECT_EQ(planned(guest).target, 800 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::deadband);
}

TEST(Targets, AGuestIsNotShrunkForLessThanItsDeadbandUnlessGuestsHaveMoreThanTheBudget) {
  const OneGuest guest{.size = 615, .share = 600, .need = 600, .claim = 600, .free = 100, .available = 100};
  EXPECT_EQ(planned(guest).target, 615 * kMiB);
  OneDecision one(8192);
  one.decision.over_budget = true;
  one.add(guest);
  set_targets(one.decision);
  EXPECT_EQ(one.decision.plan.guests[0].target, 600 * kMiB);
}

TEST(Targets, AGuestThatIsAskedGivesThatAndAtLeastItsDeadband) {
  OneDecision one(700);
  one.add({.size = 1000, .share = 300, .need = 300, .claim = 300, .free = 700, .available = 700});
  ask_donors(one.decision);
  one.decision.guests[0].history->probing.adopt(one.decision.snapshot.now, one.decision.tunables);
  set_targets(one.decision);
  EXPECT_EQ(one.decision.plan.guests[0].target, (700 - 7) * kMiB) << "to 700, and half of the headroom free";
  EXPECT_EQ(one.decision.plan.guests[0].reason, Reason::rate_limit);
}

TEST(Targets, AGuestThatIsHeldAndNotAskedStaysWhereItIs) {
  OneDecision one(8192);
  one.add({.size = 2000, .share = 600, .need = 600, .claim = 600});
  one.decision.guests[0].history->probing.adopt(one.decision.snapshot.now, one.decision.tunables);
  set_targets(one.decision);
  EXPECT_EQ(one.decision.plan.guests[0].target, 2000 * kMiB);
  EXPECT_EQ(one.decision.plan.guests[0].reason, Reason::hold);
  EXPECT_EQ(one.decision.plan.guests[0].why.otherwise.condition, Condition::time);
}

TEST(Targets, AGuestWhosePageCacheGrowsIsNotProbedButGivesWhatItIsAskedFor) {
  OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600, .free = 1000, .available = 1000};
  guest.filling = true;
  EXPECT_EQ(planned(guest).target, 2000 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::hold);
  EXPECT_EQ(planned(guest).why.otherwise.condition, Condition::growth);

  OneDecision one(2000);
  one.add(guest);
  one.add({.size = 300, .share = 800, .need = 800, .claim = 800});
  ask_donors(one.decision);
  set_targets(one.decision);
  EXPECT_LE(one.decision.plan.guests[0].target, 1200 * kMiB) << "others wait";
}

TEST(Targets, APressedGuestOnItsWayDownStopsWhereItIs) {
  OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600, .pressure = Pressure::pressed};
  guest.target = 1000;
  EXPECT_EQ(planned(guest).target, 2000 * kMiB);
  guest.max = 1500;
  EXPECT_EQ(planned(guest).target, 1500 * kMiB) << "or at its maximum, if that is less";
}

TEST(Targets, AGuestOutsideItsLimitsIsBroughtThereAtOnce) {
  OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600};
  guest.max = 1999;
  EXPECT_EQ(planned(guest).target, 600 * kMiB);
  guest = {.size = 500, .share = 510, .need = 510, .claim = 510};
  guest.min = 510;
  EXPECT_EQ(planned(guest).target, 510 * kMiB) << "however little that is";
}

TEST(Targets, AGuestOfAGroupThatHasTooMuchIsBroughtDownAtOnce) {
  OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600};
  guest.group_over = true;
  EXPECT_EQ(planned(guest).target, 600 * kMiB);
}

TEST(Targets, AGuestThatOutgrowsItsBalloonStopsUnlessItIsAsked) {
  OneGuest guest{.size = 2000, .share = 600, .need = 600, .claim = 600, .free = 1000, .available = 1000};
  guest.target = 1000;
  guest.outgrows = true;
  EXPECT_EQ(planned(guest).target, 2000 * kMiB);
  EXPECT_EQ(planned(guest).reason, Reason::hold);
  EXPECT_EQ(planned(guest).why.otherwise.condition, Condition::growth);
  OneDecision one(1500);
  one.add(guest);
  ask_donors(one.decision);
  set_targets(one.decision);
  EXPECT_LE(one.decision.plan.guests[0].target, 1500 * kMiB);
}

TEST(Targets, ABalloonThatRestsIsOnlyGrown) {
  OneGuest guest{.size = 1000, .share = 600, .need = 600, .claim = 600};
  guest.rests = true;
  EXPECT_EQ(planned(guest).reason, Reason::stale);
  guest.share = guest.need = guest.claim = guest.grow_below = 1015;
  EXPECT_EQ(planned(guest).reason, Reason::stale);
  guest.share = guest.need = guest.claim = guest.grow_below = 1016;
  EXPECT_EQ(planned(guest).target, 1016 * kMiB);
}

TEST(Targets, AGuestIsShrunkFasterWhereMemoryIsTight) {
  OneDecision one(8192);
  one.decision.plan.level = HostState::tight;
  one.add({.size = 2000, .share = 600, .need = 600, .claim = 600});
  set_targets(one.decision);
  EXPECT_NEAR(mib(one.decision.plan.guests[0].target), 2000 - 0.10 * 4096, 1);
}

TEST(Targets, AShareSaysWhatBoundIt) {
  OneGuest guest{.size = 1000, .share = 4096, .need = 4096, .claim = 4096, .grow_below = 4096};
  EXPECT_EQ(planned(guest).reason, Reason::maximum);
  guest = {.size = 1000, .share = 1500, .need = 1600, .claim = 1600, .grow_below = 1600};
  EXPECT_EQ(planned(guest).reason, Reason::share);
  guest = {.size = 500, .share = 500, .need = 500, .claim = 500};
  guest.min = 500;
  EXPECT_EQ(planned(guest).reason, Reason::minimum);
}

}  // namespace
}  // namespace balloon::policy
