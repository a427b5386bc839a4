// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/our_target.h"

#include <gtest/gtest.h>

namespace balloon::daemon {
namespace {

TEST(OurTarget, ABalloonOnItsWayIsNobodyElses) {
  OurTarget ours;
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, true)) << "nothing was asked";
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_TRUE(ours.on_its_way());
  for (const Bytes actual : {1000 * kMiB, 900 * kMiB, 910 * kMiB, 700 * kMiB, 600 * kMiB})
    EXPECT_FALSE(ours.moved_by_another(actual, true));
  EXPECT_FALSE(ours.on_its_way());
}

TEST(OurTarget, ABalloonThatLeavesItsTargetWasMoved) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(598 * kMiB, true));
  EXPECT_FALSE(ours.target());
  EXPECT_FALSE(ours.moved_by_another(500 * kMiB, true)) << "once";
}

TEST(OurTarget, ABalloonThatTurnsRoundOnItsWayWasMoved) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(800 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(900 * kMiB, true));
}

TEST(OurTarget, AGuestThatRebootsGoesToItsTargetAgain) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, false));
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, true)) << "the new driver has not moved yet";
  EXPECT_FALSE(ours.moved_by_another(800 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
}

TEST(OurTarget, ABalloonThatGoesPastItsTargetWasMoved) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(620 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(590 * kMiB, true)) << "our target alone would have stopped it";
}

TEST(OurTarget, ABalloonThatHasComeToOneTargetIsOnItsWayToTheNext) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  ours.asked(500 * kMiB, 600 * kMiB);
  EXPECT_TRUE(ours.on_its_way());
  EXPECT_FALSE(ours.moved_by_another(550 * kMiB, true));
}

TEST(OurTarget, ABalloonThatIsMovedBetweenTwoStepsOfOursWasMoved) {
  OurTarget ours;
  ours.asked(900 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(950 * kMiB, true));
  ours.asked(800 * kMiB, 950 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(890 * kMiB, true)) << "it had come to the step before";
  ours.asked(700 * kMiB, 890 * kMiB);
  EXPECT_TRUE(ours.moved_by_another(990 * kMiB, true)) << "our newest step is on its way down from 890";
}

TEST(OurTarget, ASizeFromBeforeWeAskedIsNoSign) {
  OurTarget ours;
  ours.asked(500 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(700 * kMiB, true, false));
  ours.asked(650 * kMiB, 650 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(700 * kMiB, true, false)) << "an old one; it may be at 520";
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(560 * kMiB, true)) << "it was at 600";
}

TEST(OurTarget, ABalloonThatIsToldToStayMakesTheStepThatItIsAtAndIsNobodyElses) {
  OurTarget ours;
  ours.asked(285 * kMiB, 855 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(768 * kMiB, true));
  ours.asked(749 * kMiB, 749 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(749 * kMiB, true, false))
      << "the size that it was asked to keep, not news";
  EXPECT_FALSE(ours.moved_by_another(742 * kMiB, true)) << "it had gone on before it heard";
  EXPECT_FALSE(ours.moved_by_another(749 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(748 * kMiB, true)) << "a step that was under way";
  EXPECT_FALSE(ours.moved_by_another(749 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(740 * kMiB, true));
}

/// Looks and statistics in turn, as they come from a guest; how many of them went by before it was noticed.
int samples_until_noticed(OurTarget& ours, Bytes actual, std::optional<Bytes> free, int most = 60) {
  for (int samples = 1; samples <= most; ++samples) {
    if (ours.moved_by_another(actual, true) || ours.stopped_by_another(free)) return samples;
  }
  return 0;
}

TEST(OurTarget, ABalloonThatStopsShortOfItsTargetWasMovedIfItsGuestCouldGoOn) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(900 * kMiB, true));
  EXPECT_EQ(samples_until_noticed(ours, 800 * kMiB, 400 * kMiB), OurTarget::kStandstill + 1);
  EXPECT_FALSE(ours.target());

  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_GT(samples_until_noticed(ours, 700 * kMiB, 400 * kMiB), 0) << "it was there before the first look";

  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_GT(samples_until_noticed(ours, 598 * kMiB, 400 * kMiB), 0) << "a little beyond it, too";

  ours.asked(1000 * kMiB, 600 * kMiB);
  EXPECT_GT(samples_until_noticed(ours, 800 * kMiB, 400 * kMiB), 0) << "on its way up, too";
}

TEST(OurTarget, ABalloonThatIsSentBackToWhereItWasWasMoved) {
  OurTarget ours;
  ours.asked(160 * kMiB, 256 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(255 * kMiB, true, false)) << "its first step, told at once";
  EXPECT_EQ(samples_until_noticed(ours, 256 * kMiB, 190 * kMiB), OurTarget::kStandstill + 1);
  EXPECT_FALSE(ours.target());
}

TEST(OurTarget, ABalloonThatComesToItsTargetAfterAllIsOursAgain) {
  OurTarget ours;
  ours.asked(449 * kMiB, 204 * kMiB);
  for (const Bytes actual : {336 * kMiB, 410 * kMiB}) EXPECT_FALSE(ours.moved_by_another(actual, true));
  bool stopped = false;
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(ours.moved_by_another(410 * kMiB, true));
    stopped |= ours.stopped_by_another(89 * kMiB);
  }
  EXPECT_TRUE(stopped) << "a guest without a turn on its CPU looks like that";
  EXPECT_FALSE(ours.target());
  EXPECT_FALSE(ours.moved_by_another(438 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(449 * kMiB - OurTarget::kThere - Bytes{1}, true));
  EXPECT_FALSE(ours.target()) << "somebody else's target may lie on the way, too";
  OurTarget near = ours;
  EXPECT_FALSE(near.moved_by_another(449 * kMiB - OurTarget::kThere, true));
  EXPECT_EQ(near.target(), 449 * kMiB) << "it is there";
  EXPECT_FALSE(ours.moved_by_another(449 * kMiB, true));
  EXPECT_EQ(ours.target(), 449 * kMiB);
  EXPECT_FALSE(ours.on_its_way());
  EXPECT_TRUE(ours.moved_by_another(300 * kMiB, true)) << "and from there it may be moved again";
  ours.asked(500 * kMiB, 300 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(449 * kMiB, true));
  EXPECT_EQ(ours.target(), 500 * kMiB) << "what was asked since is what counts";
}

TEST(OurTarget, ABalloonThatStopsByItselfIsNobodyElses) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_EQ(samples_until_noticed(ours, 1000 * kMiB, 500 * kMiB), 0) << "a driver that never begins";
  EXPECT_EQ(samples_until_noticed(ours, 700 * kMiB, 20 * kMiB), 0) << "its guest has no page to give";
  ours.asked(1000 * kMiB, 600 * kMiB);
  EXPECT_EQ(samples_until_noticed(ours, 800 * kMiB, 20 * kMiB), 0) << "its guest is too busy to take more";
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_EQ(samples_until_noticed(ours, 700 * kMiB, std::nullopt), 0) << "whether it has is not known";
  EXPECT_EQ(samples_until_noticed(ours, 600 * kMiB + 60 * kKiB, 400 * kMiB), 0)
      << "its pages are larger than QEMU's";
  EXPECT_EQ(samples_until_noticed(ours, 600 * kMiB + OurTarget::kThere, 400 * kMiB), 0)
      << "as Linux moves it";
  EXPECT_EQ(ours.target(), 600 * kMiB);
  ours.asked(500 * kMiB, 601 * kMiB);
  EXPECT_EQ(samples_until_noticed(ours, 601 * kMiB, 400 * kMiB), 0) << "it has not begun with the new target";
}

TEST(OurTarget, ABalloonIsNotTakenForStoppedByASizeFromBeforeWeAsked) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(ours.moved_by_another(900 * kMiB, true, false));
    EXPECT_FALSE(ours.stopped_by_another(400 * kMiB));
  }
  EXPECT_EQ(ours.target(), 600 * kMiB);
}

TEST(OurTarget, WhatIsForgottenIsNoLongerWatched) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(800 * kMiB, true));
  ours.forget();
  EXPECT_EQ(samples_until_noticed(ours, 800 * kMiB, 400 * kMiB), 0);

  ours.asked(600 * kMiB, 1000 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(700 * kMiB, true));
  ours.forget();
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  EXPECT_FALSE(ours.target()) << "nor is what was lost found again";
}

TEST(OurTarget, ABalloonThatGoesOnSlowlyIsNobodyElses) {
  OurTarget ours;
  ours.asked(600 * kMiB, 1000 * kMiB);
  for (Bytes actual = 1000 * kMiB; actual > 600 * kMiB; actual -= kMiB) {
    EXPECT_FALSE(ours.moved_by_another(actual, true));
    for (int i = 0; i < OurTarget::kStandstill; ++i) EXPECT_FALSE(ours.stopped_by_another(300 * kMiB));
  }
}

}  // namespace
}  // namespace balloon::daemon
