// SPDX-License-Identifier: Apache-2.0
// What a guest that cannot be judged or moved has not touched is there for others, but for what it may soon
// touch and what it is guaranteed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_host.h"
#include "policy/explain.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy {
namespace {

using std::chrono::hours;

/// 8 GiB with a guest of 6 that touched 500 MiB, and one of 4 that uses 2.5 and has little more.
class BesideABigOne : public FakeHost {
 public:
  BesideABigOne() : FakeHost(8 * kGiB) {
    add(6 * kGiB, 500 * kMiB, {256 * kMiB, 6 * kGiB, 100});
    add(4 * kGiB, 2560 * kMiB, {256 * kMiB, 4 * kGiB, 100});
    worker().seen.actual = worker().seen.target = 2600 * kMiB;
  }
  FakeGuest& big() { return guests[0]; }
  FakeGuest& worker() { return guests[1]; }
  /// It sent statistics once, long ago.
  void fall_silent() {
    big().answers = false;
    GuestStats& stats = big().seen.stats.emplace();
    stats.sampled_at = now - hours(1);
    stats.actual = 6 * kGiB;
  }
};

Bytes untouched(FakeHost& host) { return Engine({}).decide(host.snapshot()).guests[0].untouched; }

TEST(Untouched, IsThereForOthersBesideAGuestWithOldStatistics) {
  BesideABigOne host;
  host.fall_silent();
  Engine engine({});
  EXPECT_EQ(host.step(engine).guests[0].state, GuestState::stale);
  EXPECT_GE(host.worker().seen.target, 3 * kGiB);
}

TEST(Untouched, IsThereForOthersBesideAGuestThatIsDisconnected) {
  BesideABigOne host;
  host.fall_silent();
  host.big().seen.controllable = false;
  Engine engine({});
  EXPECT_EQ(host.step(engine).guests[0].state, GuestState::disconnected);
  EXPECT_GE(host.worker().seen.target, 3 * kGiB);
}

TEST(Untouched, IsThereForOthersBesideAGuestThatBoots) {
  BesideABigOne host;
  host.big().answers = host.big().seen.controllable = false;
  Engine engine({});
  EXPECT_EQ(host.step(engine).guests[0].state, GuestState::booting);
  EXPECT_GE(host.worker().seen.target, 3 * kGiB);
}

TEST(Untouched, IsThereForOthersBesideABalloonThatIsStuckAndWhileItIsTriedAgain) {
  BesideABigOne host;
  host.big().speed = Bytes{0};
  Engine engine({});
  int tried = 0;
  for (int second = 0; second < 120; ++second) {
    const Plan plan = host.step(engine);
    if (second < 30) continue;
    EXPECT_EQ(plan.guests[0].state, GuestState::stuck) << second;
    EXPECT_GE(host.worker().seen.target, 2900 * kMiB) << second;
    tried += host.big().seen.target < host.big().seen.actual ? 1 : 0;
  }
  EXPECT_GT(tried, 0);
}

TEST(Untouched, OfABalloonOnItsWayDownIsThereForOthersBeforeItArrives) {
  BesideABigOne host;
  host.big().seen.target = kGiB;
  host.big().speed = kMiB;
  Engine engine({});
  host.step(engine);
  EXPECT_GE(host.worker().seen.target, 3 * kGiB);
}

TEST(Untouched, OfABalloonThatIsSetByHandAndOnItsWayDownIsSharedOutToOthers) {
  BesideABigOne host;
  host.big().seen.pin = Pin{kGiB};
  host.big().seen.target = kGiB;
  host.big().speed = kMiB;
  Engine engine({});
  host.step(engine);
  EXPECT_GE(host.worker().seen.target, 3 * kGiB);
}

TEST(Untouched, IsAllButItsMarginAndAFifthThatItMaySoonTouch) {
  BesideABigOne host;
  host.fall_silent();
  EXPECT_NEAR(mib(untouched(host)), 0.8 * (6144 - 500 - 128), 1);
}

TEST(Untouched, IsNotWhatTheHostHasSwappedOut) {
  BesideABigOne host;
  host.fall_silent();
  host.big().seen.on_host.swapped = kGiB;
  EXPECT_NEAR(mib(untouched(host)), 0.8 * (6144 - 1524 - 128), 1);
}

TEST(Untouched, LeavesAGuestWhatItIsGuaranteed) {
  BesideABigOne host;
  host.fall_silent();
  host.big().seen.limits.min = 5 * kGiB;
  EXPECT_EQ(untouched(host), kGiB);
}

TEST(Untouched, LeavesAGuestThatBootsWhatItsBalloonWasAskedForAtItsStart) {
  BesideABigOne host;
  host.big().answers = host.big().seen.controllable = false;
  EXPECT_EQ(untouched(host), (6144 - 500 - 128) * kMiB);
  host.big().seen.target = 5 * kGiB;
  EXPECT_EQ(untouched(host), kGiB);
}

TEST(Untouched, IsNothingWhereNobodyKnowsOrTheMemoryIsPinned) {
  BesideABigOne host;
  host.fall_silent();
  Snapshot snapshot = host.snapshot();
  snapshot.guests[0].on_host.resident = Bytes{0};
  EXPECT_EQ(Engine({}).decide(snapshot).guests[0].untouched, Bytes{0});
  host.big().seen.on_host.pinned = true;
  EXPECT_EQ(untouched(host), Bytes{0});
}

TEST(Untouched, IsExplained) {
  BesideABigOne host;
  host.fall_silent();
  const Snapshot seen = host.snapshot();
  const Plan plan = Engine({}).decide(seen);
  EXPECT_THAT(
      explain(plan.guests[0], seen.guests[0].limits, seen.guests[0].actual, plan.budget),
      testing::HasSubstr("It counts with 1.69 GiB: what it has touched, may soon touch or is guaranteed. The "
                         "other 4.31 GiB are there for others."));
}

}  // namespace
}  // namespace balloon::policy
