// SPDX-License-Identifier: Apache-2.0
// What the simulator shows a law of guests whose statistics are missing, old or nonsense is what balloond
// would.
#include "policy/sim/as_balloond.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "policy/sim/scenario_file.h"
#include "policy/sim/world.h"

namespace balloon::policy::sim {
namespace {

using std::chrono::seconds;

GuestStats sample(Time at) {
  GuestStats stats;
  stats.sampled_at = at;
  stats.actual = kGiB;
  stats.total = kGiB;
  stats.available = 500 * kMiB;
  stats.free = 400 * kMiB;
  stats.swap_in = 100 * kMiB;
  stats.major_faults = 1000;
  return stats;
}

TEST(IsUsable, UnlessASizeIsAboveWhatItIsAPartOf) {
  GuestStats good = sample(seconds(1));
  EXPECT_TRUE(is_usable(good, {}, kGiB));
  for (const auto& change : std::initializer_list<void (*)(GuestStats&)>{
           [](GuestStats& stats) { stats.available = kGiB + Bytes{1}; },
           [](GuestStats& stats) { stats.free = kGiB + Bytes{1}; },
           [](GuestStats& stats) { stats.actual = Bytes{0}; },
           [](GuestStats& stats) { stats.total = Bytes{0}; },
           [](GuestStats& stats) { stats.total = kGiB + Bytes{1}; },
           [](GuestStats& stats) { stats.actual = kGiB + Bytes{1}; }}) {
    GuestStats bad = sample(seconds(1));
    change(bad);
    EXPECT_FALSE(is_usable(bad, {}, kGiB));
  }
}

TEST(IsUsable, WithoutACounterThatWentBack) {
  const GuestStats before = sample(seconds(1));
  GuestStats now = sample(seconds(2));
  now.swap_in = *now.swap_in - Bytes{1};
  EXPECT_TRUE(is_usable(now, before, kGiB));
  EXPECT_FALSE(now.swap_in);
  EXPECT_EQ(now.major_faults, 1000U);
}

TEST(IsUsable, ValuesThatTheDriverDoesNotKnowAreDropped) {
  GuestStats stats = sample(seconds(1));
  stats.available = Bytes::max();
  EXPECT_TRUE(is_usable(stats, {}, kGiB));
  EXPECT_FALSE(stats.available);
}

TEST(RegisteredTest, WithoutAWordItBootsUntilItsDriverHasBeenUpForAsLongAsMakesStatisticsStale) {
  Registered guest;
  guest.join(seconds(5));
  EXPECT_FALSE(guest.seen(seconds(60), kGiB, seconds(10))) << "its driver is not up";
  guest.driver(seconds(60), true);
  EXPECT_FALSE(guest.seen(seconds(70), kGiB, seconds(10)));
  const auto seen = guest.seen(seconds(71), kGiB, seconds(10));
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->sampled_at, seconds(51)) << "as old as can be";
  EXPECT_FALSE(seen->available);
}

TEST(RegisteredTest, NonsenseIsWorseThanNothing) {
  Registered guest;
  guest.join(Time{});
  guest.driver(seconds(1), true);
  guest.take(sample(seconds(2)), kGiB);
  EXPECT_EQ(guest.seen(seconds(3), kGiB, seconds(10))->available, 500 * kMiB);
  GuestStats nonsense = sample(seconds(3));
  nonsense.available = 2 * kGiB;
  guest.take(nonsense, kGiB);
  EXPECT_FALSE(guest.seen(seconds(3), kGiB, seconds(10))->available) << "at once, not once it is stale";
  guest.take(sample(seconds(4)), kGiB);
  EXPECT_TRUE(guest.seen(seconds(4), kGiB, seconds(10))->available);
}

TEST(RegisteredTest, AGuestThatRebootsIsOneThatBoots) {
  Registered guest;
  guest.join(Time{});
  guest.driver(seconds(1), true);
  guest.take(sample(seconds(2)), kGiB);
  guest.driver(seconds(3), false);
  EXPECT_FALSE(guest.seen(seconds(30), kGiB, seconds(10)));
}

class AsBalloondTest : public testing::Test {
 protected:
  void make(const std::string& text) {
    auto read = parse_scenario("summary: test\nduration: 10m\n" + text, "test.yaml");
    ASSERT_TRUE(read) << read.error().message;
    scenario = std::move(*read);
    world.emplace(scenario, 1);
  }
  const GuestSnapshot& play(double time) {
    for (int i = 0; i < static_cast<int>(time * 10); ++i) world->step();
    world->snapshot(seen);
    return seen.guests.at(0);
  }

  Scenario scenario;
  std::optional<World> world;
  Snapshot seen;
};

TEST_F(AsBalloondTest, ABlindGuestBootsForTenSecondsAndNotForSixty) {
  make("guests:\n  - {name: a, stats: {present: false}}\n");
  EXPECT_FALSE(play(9).stats);
  ASSERT_TRUE(play(3).stats);
  EXPECT_FALSE(seen.guests[0].stats->available);
}

TEST_F(AsBalloondTest, AGuestThatLostItsConnectionKeepsItsTargetItsSizeAndItsLastSample) {
  make(
      "guests:\n  - {name: a, memory: 2GiB, anon: {constant: 300MiB}}\n"
      "events:\n  - {kind: link_lost, at: 10s, until: 60s, guest: a}\n");
  play(9);
  world->command(0, kGiB);
  const GuestSnapshot lost = play(20);
  EXPECT_FALSE(lost.controllable);
  EXPECT_EQ(lost.target, kGiB);
  ASSERT_TRUE(lost.stats);
  EXPECT_LE(lost.stats->sampled_at, seconds(10));
  EXPECT_GT(lost.on_host.resident, 300 * kMiB) << "its process lives, and the host sees it";
  EXPECT_EQ(play(29).actual, lost.actual) << "nobody tells how far the balloon is";
  const GuestSnapshot& back = play(5);
  EXPECT_TRUE(back.controllable);
  EXPECT_EQ(back.actual, kGiB);
  EXPECT_GT(back.stats->sampled_at, seconds(60));
}

TEST_F(AsBalloondTest, PressureOnTheHostIsAMeanOverTenSeconds) {
  make(
      "host: {memory: 2GiB, own: {constant: 200MiB}, swap: {size: 2GiB}}\n"
      "guests:\n  - {name: a, memory: 2GiB, min: 0B, anon: {steps: [[0s, 300MiB], [5s, 1800MiB], [15s, "
      "100MiB]]}}\n"
      "  - {name: b, memory: 1GiB, min: 0B, anon: {constant: 600MiB}}\n");
  EXPECT_EQ(play(4).on_host.pressure_some, 0.0);
  const double pressed = *play(9).on_host.pressure_some;
  EXPECT_GT(pressed, 0.01);
  const double after = *play(5).on_host.pressure_some;
  EXPECT_GT(after, 0.1 * pressed) << "it fades";
}

TEST_F(AsBalloondTest, ALawIsShownNoLie) {
  make("guests:\n  - {name: a, stats: {lie: available_above_total}}\n");
  EXPECT_FALSE(play(3).stats->available);
  make("effects: off\nguests:\n  - {name: a, stats: {lie: available_above_total}}\n");
  EXPECT_TRUE(play(3).stats->available) << "in the first plant it was";
}

}  // namespace
}  // namespace balloon::policy::sim
