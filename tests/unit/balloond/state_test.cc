// SPDX-License-Identifier: Apache-2.0
// What is said of a guest's target and of the host's memory to whoever asks.
#include "balloond/control/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

GuestStatus guest_in(policy::GuestState state, const std::string& name = "web") {
  GuestStatus guest;
  guest.record.name = guest.plan.name = name;
  guest.record.connected = true;
  guest.plan.state = state;
  guest.plan.reason = policy::Reason::stale;
  return guest;
}

class StateTest : public testing::Test {
 protected:
  /// Why its size is held, by the sentence about that.
  std::string why_held(const GuestStatus& guest) const {
    const std::string text = explain(guest, state_);
    const std::string begin = "its size is held, as ";
    const auto at = text.find(begin);
    if (at == std::string::npos) return text;
    return text.substr(at + begin.size(), text.find(". ", at) - at - begin.size());
  }

  State state_ = [] {
    State state;
    state.at = 1000s;
    state.wall = WallTime(1'700'000'000s);  // 2023-11-14T22:13:20Z
    return state;
  }();
};

TEST_F(StateTest, AGuestIsFoundByItsName) {
  for (const char* name : {"a", "c"}) state_.guests.push_back(guest_in(policy::GuestState::stale, name));
  for (const char* name : {"a", "c"}) {
    ASSERT_NE(state_.find(name), nullptr);
    EXPECT_EQ(state_.find(name)->record.name, name);
  }
  for (const char* name : {"", "b", "d"}) EXPECT_EQ(state_.find(name), nullptr);
}

TEST_F(StateTest, WhoLeftIsSaidToBeGoneSinceThen) {
  GuestStatus guest = guest_in(policy::GuestState::disconnected);
  guest.record.connected = false;
  guest.record.left_at = 990s;
  EXPECT_EQ(why_held(guest), "its VMM is not connected (since 2023-11-14T22:13:10Z)");
}

TEST_F(StateTest, WhoseBalloonIsSomebodyElsesIsSaidToBeLeftAloneUntilThen) {
  GuestStatus guest = guest_in(policy::GuestState::disconnected);
  guest.contested_until = 1090s + 500ms;
  guest.record.contest.emplace();
  guest.record.contest->from = 800 * kMiB;
  guest.record.contest->to = 700 * kMiB;
  EXPECT_EQ(
      why_held(guest),
      "somebody else moved its balloon from 800 MiB to 700 MiB, and holds it: it is left alone for 91 s "
      "more, until 2023-11-14T22:14:50Z");
  guest.record.contest->suspects = "momd (process 812)";
  EXPECT_THAT(why_held(guest),
              HasSubstr("to 700 MiB (on this host runs momd (process 812)), and holds it: it is left alone"));
}

TEST_F(StateTest, AnObstacleIsSaidInItsOwnWords) {
  GuestStatus guest = guest_in(policy::GuestState::disconnected);
  guest.record.balloon.obstacle = "it does not run: paused";
  EXPECT_EQ(why_held(guest), "its balloon is left alone: it does not run: paused");
  guest.record.balloon.paused = true;
  EXPECT_EQ(why_held(guest), "it does not run: paused");
}

TEST_F(StateTest, WhatAGuestHasNotDoneYetIsSaid) {
  GuestStatus guest = guest_in(policy::GuestState::booting);
  EXPECT_EQ(why_held(guest), "its balloon driver is not up");
  guest.record.balloon.driver_ready = true;
  EXPECT_EQ(why_held(guest), "its balloon driver has sent no statistics yet");
  guest = guest_in(policy::GuestState::stale);
  EXPECT_EQ(why_held(guest), "its balloon driver has sent no statistics");
  guest.record.said.emplace();
  EXPECT_EQ(why_held(guest), "its statistics are missing, old or impossible");
}

TEST_F(StateTest, WhatElseThereIsToKnowOfAGuestFollows) {
  GuestStatus guest = guest_in(policy::GuestState::stale);
  const std::string before = explain(guest, state_);
  EXPECT_THAT(before, Not(HasSubstr("not applied")));
  EXPECT_THAT(before, Not(HasSubstr("halved")));
  EXPECT_THAT(before, Not(HasSubstr("answered")));
  EXPECT_THAT(before, Not(HasSubstr("make no sense")));
  state_.not_applied = "dry run";
  guest.record.credit.halvings = 3;
  guest.record.unanswered = state_.at - std::chrono::milliseconds(12'900);
  guest.record.complaint = "its parts are more than the whole";
  EXPECT_EQ(explain(guest, state_),
            before +
                " This is not applied: dry run. Its sizes count 3 times halved: its process cannot have "
                "what it claims. Its VMM has not answered a target for 12 s. Its newest statistics make no "
                "sense: its parts are more than the whole.");
}

TEST_F(StateTest, AFloorIsTheMinimumOfWhoCanBeMovedAndWhatOthersCountWith) {
  GuestStatus guest = guest_in(policy::GuestState::controlled);
  guest.limits.min = Bytes{1};
  guest.plan.share = Bytes{2};
  guest.actual = Bytes{3};
  EXPECT_EQ(floor_of(guest), Bytes{1});
  guest.plan.state = policy::GuestState::pinned;
  EXPECT_EQ(floor_of(guest), Bytes{3});
  guest.actual = Bytes{1};
  EXPECT_EQ(floor_of(guest), Bytes{2});
  guest.plan.state = policy::GuestState::stale;
  guest.actual = Bytes{3};
  EXPECT_EQ(floor_of(guest), Bytes{2});
}

TEST_F(StateTest, OfAHostThatIsWellNothingIsSaid) {
  for (const auto host : {policy::HostState::unspecified, policy::HostState::normal}) {
    state_.host_state = host;
    EXPECT_EQ(explain_host(state_), "");
  }
}

TEST_F(StateTest, AHostIsTightByWhatIsNeededOrByWhatItHas) {
  for (const char* name : {"a", "b"}) {
    state_.guests.push_back(guest_in(policy::GuestState::controlled, name));
    state_.guests.back().plan.need = kGiB;
  }
  state_.reserved = 512 * kMiB;
  state_.budget = 2 * kGiB;
  state_.host.memory = {.total = 8 * kGiB, .available = kGiB, .pressure_some = 0.25, .ksm = {}};
  state_.host.memory.arc = 512 * kMiB;
  const std::string by_host =
      "1.50 GiB of 8 GiB are available on the host, and some task waits for memory 25 % of the time";
  state_.host_state = policy::HostState::tight;
  EXPECT_EQ(explain_host(state_),
            "guests and reservations need 2.50 GiB, and guests may have 2 GiB: shares go by weight");
  state_.budget += 512 * kMiB;
  EXPECT_EQ(explain_host(state_), by_host);
  state_.budget = Bytes{0};
  state_.host_state = policy::HostState::critical;
  EXPECT_EQ(explain_host(state_), by_host);
}

TEST_F(StateTest, AnInfeasibleHostNamesItsThreeLargestFloorsAndWhatBindsThem) {
  const auto add = [this](const char* name, policy::GuestState state, Bytes floor) {
    state_.guests.push_back(guest_in(state, name));
    state_.guests.back().limits.min = floor;
    state_.guests.back().plan.share = floor;
  };
  add("a", policy::GuestState::controlled, kGiB);
  add("b", policy::GuestState::pinned, 2 * kGiB);
  state_.host_state = policy::HostState::infeasible;
  state_.budget = kGiB;
  EXPECT_EQ(
      explain_host(state_),
      "the guaranteed minimums of 2 guests are 3 GiB together, and guests may have 1 GiB. The largest: b "
      "(2 GiB, pinned), a (1 GiB, its minimum). Lower minimums in the policy, end reservations, or move "
      "guests away");
  add("c", policy::GuestState::stale, 3 * kGiB);
  add("d", policy::GuestState::controlled, 2 * kGiB);
  state_.reserved = 4 * kGiB;
  EXPECT_EQ(
      explain_host(state_),
      "the guaranteed minimums of 4 guests (for 1 of them what they count with, as they cannot be moved) "
      "and reservations of 4 GiB are 12 GiB together, and guests may have 1 GiB. The largest: c (3 GiB, "
      "stale), b (2 GiB, pinned), d (2 GiB, its minimum). Lower minimums in the policy, end "
      "reservations, or move guests away");
}

/// Counts what it is told.
class CountingReader final : public StateStore::Reader {
 public:
  void state_changed() override { ++changes; }
  int changes = 0;
};

TEST_F(StateTest, WhoeverReadsIsToldOfEachStateForAsLongAsItIsThere) {
  StateStore store;
  EXPECT_EQ(store.newest()->revision, 0U);
  EXPECT_NE(store.epoch(), StateStore().epoch());
  const auto reader = std::make_shared<CountingReader>();
  auto other = std::make_shared<CountingReader>();
  store.subscribe(reader);
  store.subscribe(other);
  const auto state = std::make_shared<State>();
  store.publish(state);
  EXPECT_EQ(store.newest(), state);
  EXPECT_EQ(other->changes, 1);
  other.reset();
  store.publish(state);
  EXPECT_EQ(reader->changes, 2);
}

}  // namespace
}  // namespace balloon::daemon
