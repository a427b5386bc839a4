// SPDX-License-Identifier: Apache-2.0
#include "policy/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_host.h"
#include "policy/explain.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

constexpr GuestLimits kLimits{256 * kMiB, 2 * kGiB, 100};

FakeHost six_on_eight(Bytes used = 150 * kMiB) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < 6; ++i) host.add(2 * kGiB, used, kLimits);
  return host;
}

/// With all of the reserve kept, and a twentieth of what is for guests.
Tunables large_headroom() {
  Tunables tunables;
  tunables.headroom_ratio = 0.05;
  tunables.reserve_kept_ratio = 1;
  return tunables;
}

TEST(Engine, MovesMemoryToWhoeverNeedsItAndBack) {
  FakeHost host = six_on_eight();
  Engine engine({});
  for (int i = 0; i < 60; ++i) host.step(engine);
  for (const auto& guest : host.guests) EXPECT_LE(guest.seen.actual, 512 * kMiB) << guest.seen.name;

  for (int i = 0; i < 3; ++i) host.guests[static_cast<std::size_t>(i)].used = 1700 * kMiB;
  int steps = 0;
  const auto satisfied = [&](std::size_t from) {
    return std::all_of(host.guests.begin() + static_cast<long>(from),
                       host.guests.begin() + static_cast<long>(from) + 3,
                       [](const FakeGuest& guest) { return guest.seen.actual > guest.used; });
  };
  while (!satisfied(0) && steps < 60) host.step(engine), ++steps;
  EXPECT_LE(steps, 6) << "seconds to satisfy three loaded guests from headroom";

  for (std::size_t i = 0; i < 6; ++i) host.guests[i].used = i < 3 ? 150 * kMiB : 1700 * kMiB;
  for (steps = 0; !satisfied(3) && steps < 60; ++steps) host.step(engine);
  EXPECT_LE(steps, 25) << "seconds to satisfy the other three by what the first give up";
}

/// The most that guests had beyond the budget, and the budget at first and in the end, once the host itself
/// took `more` of a host with slow balloons that was full.
struct Squeeze {
  Squeeze(Bytes more, Bytes reserve) {
    FakeHost host = six_on_eight(1200 * kMiB);
    Tunables tunables;
    tunables.host_reserve = reserve;
    tunables.reserve_kept_ratio = 1;
    Engine engine(tunables);
    for (int i = 0; i < 120; ++i) before = host.step(engine).budget;
    for (FakeGuest& guest : host.guests) guest.speed = 2 * kMiB;
    host.use(300 * kMiB + more);
    for (int i = 0; i < 60; ++i) {
      const Plan plan = host.step(engine);
      if (i == 0) first = plan.budget;
      beyond = std::max(beyond, above(host.committed(), plan.budget));
      last = plan.budget;
    }
  }
  Bytes before{};
  Bytes first{};
  Bytes last{};
  Bytes beyond{};
};

TEST(Engine, LowersTheBudgetAsGuestsGiveWhileTheReserveCoversWhatTheHostTook) {
  const Squeeze squeeze(300 * kMiB, 400 * kMiB);
  EXPECT_EQ(squeeze.beyond, Bytes{0});
  EXPECT_GT(squeeze.first, squeeze.before - 100 * kMiB);
  EXPECT_NEAR(static_cast<double>(squeeze.last), static_cast<double>(squeeze.before - 300 * kMiB),
              static_cast<double>(8 * kMiB))
      << "the reserve is whole again";
}

TEST(Engine, SaysThatGuestsHaveMoreThanTheBudgetOnceTheReserveIsGone) {
  EXPECT_EQ(Squeeze(90 * kMiB, 100 * kMiB).beyond, Bytes{0});
  const Bytes beyond = Squeeze(130 * kMiB, 100 * kMiB).beyond;
  EXPECT_GT(beyond, 10 * kMiB) << "what they have not touched yet is not there any more";
  EXPECT_LE(beyond, 30 * kMiB);
}

TEST(Engine, SharesByWeightWhenNotEverythingFits) {
  FakeHost host = six_on_eight(1900 * kMiB);
  host.guests[0].seen.limits.weight = 150;
  Engine engine({});
  Plan plan;
  for (int i = 0; i < 60; ++i) plan = host.step(engine);
  EXPECT_EQ(plan.state, HostState::tight);
  const double unit = static_cast<double>(host.guests[1].seen.actual);
  EXPECT_NEAR(static_cast<double>(host.guests[0].seen.actual) / unit, 1.5, 0.05);
  EXPECT_NEAR(static_cast<double>(host.guests[5].seen.actual) / unit, 1.0, 0.05);
  EXPECT_EQ(plan.guests[1].reason, Reason::share);
  EXPECT_LE(host.committed(), plan.budget);
}

TEST(Engine, SaysInfeasibleWhenMinimumsExceedTheBudgetAndGoesNoFurther) {
  FakeHost host(2 * kGiB);
  for (int i = 0; i < 4; ++i) host.add(2 * kGiB, 100 * kMiB, {kGiB, 2 * kGiB, 100});
  Engine engine({});
  Plan plan;
  for (int i = 0; i < 30; ++i) plan = host.step(engine);
  EXPECT_EQ(plan.state, HostState::infeasible);
  for (const auto& guest : host.guests) EXPECT_EQ(guest.seen.actual, kGiB);
}

TEST(Engine, NeverShrinksAPressedGuestWhileAnotherHasIdleMemoryToGive) {
  FakeHost host = six_on_eight(150 * kMiB);
  host.guests[0].used = 1990 * kMiB;  // presses; the five others have 2 GiB each and idle
  Engine engine({});
  for (int i = 0; i < 30; ++i) {
    host.step(engine);
    ASSERT_GE(host.guests[0].seen.target, 1990 * kMiB) << "second " << i;
  }
}

TEST(Engine, TakesFromPressedGuestsAboveTheirShareWhenNobodyIsIdle) {
  FakeHost host = six_on_eight(1900 * kMiB);
  for (std::size_t i = 3; i < 6; ++i) host.guests[i].seen.actual = host.guests[i].seen.target = 300 * kMiB;
  Engine engine({});
  for (int i = 0; i < 40; ++i) host.step(engine);
  for (const auto& guest : host.guests) {
    EXPECT_NEAR(mib(guest.seen.actual), mib(host.guests[0].seen.actual), 64);
  }
}

TEST(Engine, HoldsAGuestWhoseStatisticsAreOldAndSharesOutTheRest) {
  FakeHost host = six_on_eight();
  Engine engine({});
  host.step(engine);
  host.guests[0].answers = false;
  Plan plan;
  for (int i = 0; i < 15; ++i) plan = host.step(engine);
  EXPECT_EQ(plan.guests[0].state, GuestState::stale);
  const Bytes held = host.guests[0].seen.target;
  for (int i = 0; i < 40; ++i) host.step(engine);
  EXPECT_EQ(host.guests[0].seen.target, held);
  EXPECT_LE(host.guests[1].seen.actual, 512 * kMiB);
}

TEST(Engine, DoesNotSqueezeOthersForAGuestThatIsStillBooting) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < 4; ++i) host.add(2 * kGiB, 1500 * kMiB, kLimits);
  Engine engine({});
  for (int i = 0; i < 60; ++i) host.step(engine);
  const Bytes before = host.guests[0].seen.target;
  auto& booting = host.add(2 * kGiB, 100 * kMiB, kLimits);
  booting.answers = booting.seen.controllable = false;
  Plan plan;
  for (int i = 0; i < 10; ++i) plan = host.step(engine);
  EXPECT_EQ(plan.guests[4].state, GuestState::booting);
  EXPECT_EQ(plan.state, HostState::normal);
  EXPECT_GE(host.guests[0].seen.target + 64 * kMiB, before);
}

TEST(Engine, LeavesAStuckBalloonAloneAndTriesAgain) {
  FakeHost host = six_on_eight();
  host.guests[2].speed = Bytes{0};
  Engine engine({});
  int left_alone = 0;
  int tried = 0;
  for (int i = 0; i < 120; ++i) {
    const Plan plan = host.step(engine);
    if (plan.guests[2].state != GuestState::stuck) continue;
    ++(host.guests[2].seen.target < host.guests[2].seen.actual ? tried : left_alone);
  }
  EXPECT_GT(left_alone, 60) << "no unreachable target is left standing for long";
  EXPECT_GT(tried, 0);
}

TEST(Engine, TakesAPinAsItIs) {
  FakeHost host = six_on_eight();
  Engine engine({});
  host.guests[1].seen.pin = Pin{1200 * kMiB};
  Plan plan;
  for (int i = 0; i < 30; ++i) plan = host.step(engine);
  EXPECT_EQ(host.guests[1].seen.actual, 1200 * kMiB);
  EXPECT_EQ(plan.guests[1].reason, Reason::pin);
}

TEST(Engine, TakesFromGuestsThatAreHeldOnlyWhatMakesHalfOfTheHeadroomFree) {
  FakeHost host(4 * kGiB);
  for (int i = 0; i < 2; ++i) host.add(1680 * kMiB, 300 * kMiB, {256 * kMiB, 1680 * kMiB, 100});
  const Tunables tunables = large_headroom();
  Engine engine(tunables);
  Plan plan;
  for (int i = 0; i < 5; ++i) plan = host.step(engine);  // a guest that is new is held for 10 s
  const auto headroom = static_cast<Bytes>(tunables.headroom_ratio * static_cast<double>(plan.budget));
  const Bytes held = host.guests[0].seen.actual + host.guests[1].seen.actual;
  EXPECT_LE(held, plan.budget - headroom / 2);
  EXPECT_GT(held, plan.budget - headroom) << "the rest is in no hurry";
  for (int i = 0; i < 20; ++i) plan = host.step(engine);
  EXPECT_LE(host.guests[0].seen.actual + host.guests[1].seen.actual, plan.budget - headroom)
      << "and comes by itself";
}

/// One guest with a slow balloon on its way down, and two beside it.
FakeHost slow_balloon(Engine& engine) {
  FakeHost host(6 * kGiB);
  host.add(2 * kGiB, 250 * kMiB, kLimits).speed = 10 * kMiB;
  for (int i = 0; i < 2; ++i) host.add(2 * kGiB, 250 * kMiB, kLimits);
  for (int i = 0; i < 60; ++i) host.step(engine);
  return host;
}

TEST(Engine, StopsASlowBalloonWhoseGuestGrowsUnlessOthersWait) {
  for (const bool others_wait : {false, true}) {
    Tunables tunables;
    tunables.reserve_kept_ratio = 1;  // it is others that have to give
    Engine engine(tunables);
    FakeHost host = slow_balloon(engine);
    FakeGuest& slow = host.guests[0];
    const Bytes from = slow.seen.actual;
    ASSERT_GT(from, slow.seen.target + 500 * kMiB) << "still on its way down";
    if (others_wait) host.guests[1].used = host.guests[2].used = 2 * kGiB;
    for (int i = 0; i < 60; ++i) {
      slow.used += 15 * kMiB;
      host.step(engine);
    }
    if (others_wait) {
      EXPECT_LT(slow.seen.actual, from - 100 * kMiB);
    } else {
      EXPECT_GE(slow.seen.actual, from - 60 * kMiB) << "what it did before the growth was plain to see";
    }
  }
}

TEST(Engine, LetsASlowBalloonGoOnSoonAfterAGrowthThatEnded) {
  Engine engine({});
  FakeHost host = slow_balloon(engine);
  FakeGuest& slow = host.guests[0];
  const Bytes from = slow.seen.actual;
  for (int i = 0; i < 8; ++i) {
    slow.used += 15 * kMiB;
    host.step(engine);
  }
  for (int i = 0; i < 40; ++i) host.step(engine);
  EXPECT_LT(slow.seen.actual, from - 250 * kMiB);
}

TEST(Engine, TakesPageCacheForNeedsButNotForTheHeadroom) {
  FakeHost host(4 * kGiB);
  host.add(1680 * kMiB, 300 * kMiB, {256 * kMiB, 1680 * kMiB, 100}).free = Bytes{0};
  FakeGuest& other = host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB, 100});
  other.seen.actual = other.seen.target = 1660 * kMiB;
  other.free = Bytes{0};
  const Tunables tunables = large_headroom();
  Engine engine(tunables);
  for (int i = 0; i < 5; ++i) {
    const Plan plan = host.step(engine);
    ASSERT_GT(host.committed(), plan.budget - static_cast<Bytes>(tunables.headroom_ratio / 2 *
                                                                 static_cast<double>(plan.budget)));
    ASSERT_EQ(host.guests[0].seen.target, 1680 * kMiB);
  }
  host.guests[1].used = 1600 * kMiB;
  for (int i = 0; i < 3; ++i) host.step(engine);
  EXPECT_LT(host.guests[0].seen.actual, 1600 * kMiB);
  EXPECT_GE(host.guests[1].seen.actual, 1800 * kMiB);
}

TEST(Engine, DoesNotTakeAgainWhatWasFreeWhenTheGuestWasSampled) {
  Snapshot snapshot;
  snapshot.now = std::chrono::hours(1);
  snapshot.host.total = 4 * kGiB;
  snapshot.host.available = 1820 * kMiB;  // so that less than half of the headroom is free
  GuestSnapshot guest;
  guest.name = "a";
  guest.memory = 2000 * kMiB;
  guest.limits = {256 * kMiB, 2000 * kMiB, 100};
  guest.actual = guest.target = 1700 * kMiB;
  guest.on_host.resident = 300 * kMiB;
  guest.controllable = true;
  guest.stats = GuestStats{};
  guest.stats->sampled_at = snapshot.now;
  guest.stats->actual = guest.actual;
  guest.stats->available = guest.actual - 300 * kMiB;
  guest.stats->free = 300 * kMiB;
  snapshot.guests = {guest};
  EXPECT_LT(Engine(large_headroom()).decide(snapshot).guests[0].target, guest.target);
  GuestStats& stats = *snapshot.guests[0].stats;  // from before the balloon took what was free
  stats.actual = guest.actual + 300 * kMiB;
  stats.available = stats.actual - 300 * kMiB;
  EXPECT_EQ(Engine(large_headroom()).decide(snapshot).guests[0].target, guest.target);
}

TEST(Engine, GivesSurplusToGuestsWhenPolicySaysSo) {
  FakeHost host = six_on_eight();
  Tunables tunables;
  tunables.surplus = Surplus::guests;
  Engine engine(tunables);
  for (int i = 0; i < 60; ++i) host.step(engine);
  EXPECT_GT(host.guests[0].seen.actual, kGiB);
}

/// A host of 8 GiB with two guests of 2 GiB without room to keep what they read: one reads 50 MiB a second.
class ReadingGuest {
 public:
  explicit ReadingGuest(Surplus surplus) : engine_(tuned(surplus)) {
    snapshot_.host.total = 8 * kGiB;
    snapshot_.host.available = 7 * kGiB;
    for (const char* name : {"quiet", "reads"}) {
      GuestSnapshot guest;
      guest.name = name;
      guest.memory = 2 * kGiB;
      guest.limits = {256 * kMiB, 2 * kGiB, 100};
      guest.actual = guest.target = guest.on_host.resident = 600 * kMiB;
      guest.controllable = true;
      guest.stats = GuestStats{};
      guest.stats->actual = guest.actual;
      guest.stats->available = 300 * kMiB;
      guest.stats->free = 10 * kMiB;
      guest.stats->disk_read = guest.stats->swap_in = Bytes{0};
      guest.stats->major_faults = 0;
      snapshot_.guests.push_back(guest);
    }
  }
  Plan next(Bytes read = 50 * kMiB) {
    snapshot_.now += std::chrono::seconds(1);
    *snapshot_.guests[1].stats->disk_read += read;
    for (GuestSnapshot& guest : snapshot_.guests) guest.stats->sampled_at = snapshot_.now;
    return engine_.decide(snapshot_);
  }
  Snapshot& snapshot() { return snapshot_; }

 private:
  static Tunables tuned(Surplus surplus) {
    Tunables tunables;
    tunables.surplus = surplus;
    return tunables;
  }
  Engine engine_;
  Snapshot snapshot_;
};

TEST(Engine, GivesFreeMemoryToAGuestThatReadsMuchWithoutRoomToKeepIt) {
  ReadingGuest host(Surplus::wanted);
  Plan plan = host.next();
  for (int second = 0; second < 3; ++second) plan = host.next();
  EXPECT_NEAR(mib(plan.guests[1].target), 740, 10) << "what it read";
  EXPECT_LE(plan.guests[0].target, 600 * kMiB) << "the other one shows no want";
  for (int second = 0; second < 60; ++second) plan = host.next();
  EXPECT_EQ(plan.guests[1].target, 2 * kGiB) << "as long as it reads, it is given more";
  ReadingGuest kept(Surplus::headroom);
  for (int second = 0; second < 60; ++second) plan = kept.next();
  EXPECT_LE(plan.guests[1].target, 600 * kMiB);
}

TEST(Engine, DoesNotMoveAllThatIsFreeBetweenGuestsThatReadALittleInTurn) {
  ReadingGuest host(Surplus::wanted);
  for (int second = 0; second < 60; ++second) {
    if (second % 8 == 0) *host.snapshot().guests[second / 8 % 2].stats->disk_read += 4 * kMiB;
    for (const GuestPlan& plan : host.next(Bytes{0}).guests) {
      EXPECT_NEAR(mib(plan.target), 600, 75) << plan.name << ", " << second;
    }
  }
}

TEST(Engine, TakesBackWhatWasGivenForCacheWhenAReservationAsksForIt) {
  ReadingGuest host(Surplus::wanted);
  host.next();
  host.next();
  GuestSnapshot& reader = host.snapshot().guests[1];
  reader.actual = reader.target = reader.stats->actual = 2 * kGiB;
  reader.stats->available = 2 * kGiB - 300 * kMiB;
  host.snapshot().host.available = 2 * kGiB;
  host.snapshot().host.total = 4 * kGiB;
  host.snapshot().reservations = {
      {.id = "late", .min = 2 * kGiB, .max = 2 * kGiB, .priority = 100, .deadline = {}}};
  const Plan plan = host.next();
  EXPECT_LT(plan.guests[1].target, 2 * kGiB);
  EXPECT_EQ(plan.reservations[0].state, GrantState::pending);
}

TEST(Engine, GivesTheSamePlansForTheSameSnapshots) {
  FakeHost one = six_on_eight();
  FakeHost two = six_on_eight();
  Engine first({});
  Engine second({});
  for (int i = 0; i < 50; ++i) {
    one.guests[0].used = two.guests[0].used = i * 30 * kMiB;
    const Plan a = one.step(first);
    const Plan b = two.step(second);
    for (std::size_t g = 0; g < 6; ++g) {
      ASSERT_EQ(a.guests[g].target, b.guests[g].target);
      ASSERT_EQ(a.guests[g].reason, b.guests[g].reason);
    }
  }
}

TEST(Engine, ExplainsEachTargetWithItsFigures) {
  FakeHost host = six_on_eight(1900 * kMiB);
  Engine engine({});
  Plan plan;
  for (int i = 0; i < 40; ++i) plan = host.step(engine);
  const auto seen = host.snapshot();
  EXPECT_THAT(explain(plan.guests[0], seen.guests[0].limits, seen.guests[0].actual, plan.budget),
              testing::AllOf(testing::HasSubstr("g0000 has"), testing::HasSubstr("share by weight 100")));
}

}  // namespace
}  // namespace balloon::policy
