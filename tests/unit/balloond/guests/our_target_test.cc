#include "balloond/guests/our_target.h"

#include <gtest/gtest.h>

namespace balloon::daemon {
namespace {

TEST(OurTarget, ABalloonOnItsWayIsNobodyElses) {
  OurTarget ours;
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, true)) << "nothing was asked";
  ours.asked(600 * kMiB);
  EXPECT_TRUE(ours.on_its_way());
  for (const Bytes actual : {1000 * kMiB, 900 * kMiB, 910 * kMiB, 700 * kMiB, 600 * kMiB})
    EXPECT_FALSE(ours.moved_by_another(actual, true));
  EXPECT_FALSE(ours.on_its_way());
}

TEST(OurTarget, ABalloonThatLeavesItsTargetWasMoved) {
  OurTarget ours;
  ours.asked(600 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(599 * kMiB, true));
  EXPECT_FALSE(ours.target());
  EXPECT_FALSE(ours.moved_by_another(500 * kMiB, true)) << "once";
}

TEST(OurTarget, ABalloonThatTurnsRoundOnItsWayWasMoved) {
  OurTarget ours;
  ours.asked(600 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(800 * kMiB, true));
  EXPECT_TRUE(ours.moved_by_another(900 * kMiB, true));
}

TEST(OurTarget, AGuestThatRebootsGoesToItsTargetAgain) {
  OurTarget ours;
  ours.asked(600 * kMiB);
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, false));
  EXPECT_FALSE(ours.moved_by_another(1000 * kMiB, true)) << "the new driver has not moved yet";
  EXPECT_FALSE(ours.moved_by_another(800 * kMiB, true));
  EXPECT_FALSE(ours.moved_by_another(600 * kMiB, true));
}

}  // namespace
}  // namespace balloon::daemon
