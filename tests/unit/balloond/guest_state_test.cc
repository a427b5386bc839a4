// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/guest_state.h"

#include <gtest/gtest.h>

#include "balloond/control/state.h"

namespace balloon::daemon {
namespace {

/// A guest that is connected and whose plan says `state`, for want of anything to go by.
GuestStatus guest_in(policy::GuestState state) {
  GuestStatus guest;
  guest.record.connected = true;
  guest.plan.state = state;
  guest.plan.reason = policy::Reason::stale;
  return guest;
}

TEST(GuestStateTest, IsThePlansWhereTheDaemonKnowsNoMore) {
  for (const auto state : {policy::GuestState::booting, policy::GuestState::controlled,
                           policy::GuestState::stale, policy::GuestState::stuck, policy::GuestState::pinned})
    EXPECT_EQ(state_of(guest_in(state)), static_cast<GuestState>(state));
}

TEST(GuestStateTest, IsBlindWhereTheHostStandsForItsStatistics) {
  GuestStatus guest = guest_in(policy::GuestState::controlled);
  guest.plan.why.source = policy::Source::host;
  guest.plan.reason = policy::Reason::need;
  EXPECT_EQ(state_of(guest), GuestState::blind);
  EXPECT_EQ(reason_of(guest), Reason::need) << "it is moved";
  guest.plan.state = policy::GuestState::stuck;
  EXPECT_EQ(state_of(guest), GuestState::stuck);
}

TEST(GuestStateTest, SaysWhyNobodyMovesABalloonWhateverThePlanSays) {
  for (const auto planned : {policy::GuestState::disconnected, policy::GuestState::booting}) {
    GuestStatus guest = guest_in(planned);
    guest.record.balloon.obstacle = "it has no balloon device";
    EXPECT_EQ(state_of(guest), GuestState::left_alone);
    EXPECT_EQ(reason_of(guest), Reason::left_alone);
    guest.record.balloon.paused = true;
    EXPECT_EQ(state_of(guest), GuestState::paused);
    EXPECT_EQ(reason_of(guest), Reason::paused);
    guest.contested_until = Time{};
    EXPECT_EQ(state_of(guest), GuestState::contested);
    EXPECT_EQ(reason_of(guest), Reason::contested);
    guest.record.connected = false;
    EXPECT_EQ(state_of(guest), GuestState::disconnected);
    EXPECT_EQ(reason_of(guest), Reason::disconnected);
  }
}

TEST(GuestStateTest, IsBootingWhereTheDriverOfAConnectedGuestWentAway) {
  const GuestStatus guest = guest_in(policy::GuestState::disconnected);
  EXPECT_EQ(state_of(guest), GuestState::booting);
  EXPECT_EQ(reason_of(guest), Reason::booting);
}

TEST(GuestStateTest, IsTheReasonOfAGuestThatIsNotMoved) {
  EXPECT_EQ(reason_of(guest_in(policy::GuestState::stale)), Reason::stale);
  EXPECT_EQ(reason_of(guest_in(policy::GuestState::booting)), Reason::booting);
  EXPECT_EQ(reason_of(guest_in(policy::GuestState::stuck)), Reason::stuck);
  GuestStatus grown = guest_in(policy::GuestState::stuck);
  grown.plan.reason = policy::Reason::share;
  EXPECT_EQ(reason_of(grown), Reason::share) << "one that is stuck may grow";
}

TEST(GuestStateTest, StatisticsWouldChangeTheTargetOfAGuestThatIsInReachOnly) {
  GuestStatus guest = guest_in(policy::GuestState::stale);
  guest.plan.why.otherwise.condition = policy::Condition::statistics;
  EXPECT_EQ(blocker_of(guest), policy::Condition::statistics);
  guest.record.connected = false;
  EXPECT_EQ(blocker_of(guest), policy::Condition::balloon);
  guest.plan.why.otherwise.condition = policy::Condition::budget;
  EXPECT_EQ(blocker_of(guest), policy::Condition::budget);
}

}  // namespace
}  // namespace balloon::daemon
