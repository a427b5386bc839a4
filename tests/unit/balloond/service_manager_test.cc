// SPDX-License-Identifier: Apache-2.0
#include "balloond/service_manager.h"

#include <gmock/gmock.h>

#include <vector>

namespace balloon::daemon {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class ServiceManagerTest : public testing::Test {
 protected:
  ServiceManager with_watchdog(std::chrono::microseconds time) {
    return {[this](const std::string& lines) { told_.push_back(lines); }, time};
  }
  std::vector<std::string> told_;
};

TEST_F(ServiceManagerTest, ALoopThatDecidesIsASignOfLifeAndOneThatStandsStillIsNone) {
  ServiceManager manager = with_watchdog(20s);
  manager.look(1);
  EXPECT_THAT(told_, ElementsAre("WATCHDOG=1"));
  for (int second = 0; second < 60; ++second) manager.look(1);
  EXPECT_THAT(told_, ElementsAre("WATCHDOG=1"));
  manager.look(7);
  EXPECT_THAT(told_, ElementsAre("WATCHDOG=1", "WATCHDOG=1"));
}

TEST_F(ServiceManagerTest, ADaemonThatHasNeverDecidedGivesNoSignOfLife) {
  ServiceManager manager = with_watchdog(20s);
  manager.look(0);
  EXPECT_THAT(told_, IsEmpty());
}

TEST_F(ServiceManagerTest, WithoutAWatchdogThereAreNoSignsOfLife) {
  ServiceManager manager = with_watchdog(0s);
  manager.look(1);
  manager.ready("serving", 300s);
  EXPECT_THAT(told_, ElementsAre("READY=1\nSTATUS=serving"));
}

TEST_F(ServiceManagerTest, ALoopThatMaySleepForLongerAsksForMoreTimeAndGivesItBack) {
  ServiceManager manager = with_watchdog(20s);
  manager.ready("serving", 5s);
  EXPECT_THAT(told_.back(), Not(HasSubstr("WATCHDOG_USEC")));
  manager.ready("serving", 300s);
  EXPECT_THAT(told_.back(), HasSubstr("WATCHDOG_USEC=300000000"));
  manager.ready("serving", 300s);
  EXPECT_THAT(told_.back(), Not(HasSubstr("WATCHDOG_USEC"))) << "it is in force";
  manager.ready("serving", 5s);
  EXPECT_THAT(told_.back(), HasSubstr("WATCHDOG_USEC=20000000")) << "never less than the unit says";
}

TEST_F(ServiceManagerTest, AReloadSaysWhenItBegan) {
  ServiceManager manager = with_watchdog(0s);
  manager.reloading();
  EXPECT_THAT(told_, ElementsAre(testing::MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+")));
}

}  // namespace
}  // namespace balloon::daemon
