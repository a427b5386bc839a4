// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/control_switch.h"

#include <gtest/gtest.h>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using namespace std::chrono_literals;

class ControlSwitchTest : public testing::Test {
 protected:
  test::FakeClock clock_;
  ControlSwitch control_{clock_};
};

TEST_F(ControlSwitchTest, ADryRunIsSaidUntilItIsOver) {
  EXPECT_EQ(control_.obstacle(), "");
  for (int i = 0; i < 2; ++i) {
    control_.set_dry_run(true);
    EXPECT_EQ(control_.obstacle(), "dry run");
  }
  control_.set_dry_run(false);
  EXPECT_EQ(control_.obstacle(), "");
}

TEST_F(ControlSwitchTest, APauseLastsForItsTimeAndADryRunGoesOnAfterIt) {
  control_.set_dry_run(true);
  control_.pause(60s, "mia");  // the clock on the wall says 2023-11-14T22:30:00Z
  EXPECT_EQ(control_.obstacle(), "paused by mia until 2023-11-14T22:31:00Z");
  clock_.advance(60s - 1ns);
  EXPECT_EQ(control_.obstacle(), "paused by mia until 2023-11-14T22:31:00Z");
  clock_.advance(1ns);
  EXPECT_EQ(control_.obstacle(), "dry run");
  EXPECT_FALSE(control_.resume()) << "it is over";
}

TEST_F(ControlSwitchTest, APauseWithoutATimeLastsUntilSomebodyResumes) {
  EXPECT_FALSE(control_.resume());
  control_.pause(60s, "mia");
  control_.pause({}, "tom");
  clock_.advance(24h);
  EXPECT_EQ(control_.obstacle(), "paused by tom until somebody resumes it");
  EXPECT_TRUE(control_.resume());
  EXPECT_EQ(control_.obstacle(), "");
}

}  // namespace
}  // namespace balloon::daemon
