// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "policy/sim/generator.h"
#include "policy/sim/random.h"
#include "policy/sim/scenario_file.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy::sim {
namespace {

using std::chrono::seconds;
using testing::DoubleNear;

constexpr std::uint64_t kRandomWorlds = 40;

class WorldTest : public testing::Test {
 protected:
  void make(const std::string& text) {
    auto read = parse_scenario("summary: test\nduration: 10m\n" + text, "test.yaml");
    ASSERT_TRUE(read) << read.error().message;
    scenario = std::move(*read);
    world.emplace(scenario, 1);
  }
  void play(double time) {
    for (int i = 0; i < static_cast<int>(time * 10); ++i) {
      world->step();
      check_conservation();
    }
    world->snapshot(seen);
  }
  void check_conservation() const {
    const HostMemory& host = world->host().memory();
    ASSERT_THAT(host.own + host.cache + host.arc + host.zram + host.guests + host.free,
                DoubleNear(static_cast<double>(scenario.host.memory), 64));
    for (const GuestPlant& guest : world->guests()) {
      if (!guest.running()) continue;
      ASSERT_THAT(guest.memory().size() + guest.memory().balloon,
                  DoubleNear(static_cast<double>(guest.spec().memory), 1));
    }
  }

  Scenario scenario;
  std::optional<World> world;
  Snapshot seen;
};

TEST_F(WorldTest, ShowsTheDaemonWhatIsThere) {
  make("guests:\n  - {name: b, memory: 1GiB, anon: {constant: 300MiB}}\n  - {name: a, memory: 2GiB}\n");
  play(3);
  ASSERT_EQ(seen.guests.size(), 2U);
  EXPECT_EQ(seen.guests[0].name, "a") << "sorted by name";
  EXPECT_EQ(seen.guests[1].memory, kGiB);
  EXPECT_EQ(seen.guests[1].actual, kGiB);
  EXPECT_TRUE(seen.guests[1].controllable);
  ASSERT_TRUE(seen.guests[1].stats);
  EXPECT_NEAR(mib(seen.guests[1].on_host.resident), 300.0 + 64 + 6, 2);
  EXPECT_EQ(seen.host.total, 8 * kGiB);
  EXPECT_EQ(seen.now, seconds(3));
}

TEST_F(WorldTest, MovesABalloonThatIsToldTo) {
  make("guests:\n  - {name: a, memory: 2GiB, anon: {constant: 300MiB}}\n");
  play(1);
  EXPECT_TRUE(world->command(0, kGiB));
  EXPECT_FALSE(world->command(0, kGiB)) << "that is what was asked for already";
  play(2);
  EXPECT_EQ(seen.guests[0].target, kGiB);
  EXPECT_NEAR(mib(seen.guests[0].actual), 1024, 1);
}

TEST_F(WorldTest, GuestsComeBootAndGo) {
  make(
      "guests:\n  - {name: a, memory: 1GiB}\n"
      "  - {name: b, memory: 1GiB, anon: {constant: 500MiB}, joins: 10s, boot: 20s, leaves: 60s}\n");
  play(9);
  EXPECT_EQ(seen.guests.size(), 1U);
  play(11);
  ASSERT_EQ(seen.guests.size(), 2U);
  EXPECT_FALSE(seen.guests[1].controllable) << "it boots";
  EXPECT_LT(seen.guests[1].on_host.resident, 400 * kMiB) << "its programs start one after the other";
  play(15);
  EXPECT_TRUE(seen.guests[1].controllable);
  EXPECT_GT(seen.guests[1].on_host.resident, 500 * kMiB);
  play(30);
  EXPECT_EQ(seen.guests.size(), 1U);
}

TEST_F(WorldTest, AHangingBackendTakesCommandsOnlyAfterwardsAndSendsNothing) {
  make(
      "guests:\n  - {name: a, memory: 2GiB}\n"
      "events:\n  - {kind: backend_hangs, at: 10s, until: 40s, guest: a}\n");
  play(20);
  const Time sampled = seen.guests[0].stats->sampled_at;
  EXPECT_LE(sampled, seconds(10));
  world->command(0, kGiB);
  play(15);
  EXPECT_EQ(seen.guests[0].actual, 2 * kGiB);
  EXPECT_EQ(seen.guests[0].stats->sampled_at, sampled);
  play(10);
  EXPECT_NEAR(mib(seen.guests[0].actual), 1024, 1);
  EXPECT_GT(seen.guests[0].stats->sampled_at, seconds(40));
}

TEST_F(WorldTest, KnowsWhenTheDaemonIsDown) {
  make("guests:\n  - {name: a}\nevents:\n  - {kind: daemon_down, at: 10s, until: 20s}\n");
  play(5);
  EXPECT_TRUE(world->daemon_up());
  play(6);
  EXPECT_FALSE(world->daemon_up());
  play(10);
  EXPECT_TRUE(world->daemon_up());
}

TEST_F(WorldTest, LimitsChangeWhenTheyAreToldTo) {
  make(
      "guests:\n  - {name: a, memory: 2GiB, min: 256MiB}\n"
      "events:\n  - {kind: limits_change, at: 10s, guest: a, min: 1GiB, weight: 300}\n");
  play(9);
  EXPECT_EQ(seen.guests[0].limits.min, 256 * kMiB);
  play(2);
  EXPECT_EQ(seen.guests[0].limits.min, kGiB);
  EXPECT_EQ(seen.guests[0].limits.weight, 300U);
}

TEST_F(WorldTest, AReservedGuestStartsWithItsGrant) {
  make(
      "guests:\n  - {name: a}\n"
      "  - {name: b, memory: 2GiB, anon: {constant: 200MiB}, boot: 5s,"
      " reservation: {at: 10s, min: 1GiB, max: 2GiB, deadline: 20s, start_after: 2s}}\n");
  play(9);
  EXPECT_TRUE(seen.reservations.empty());
  play(2);
  ASSERT_EQ(seen.reservations.size(), 1U);
  EXPECT_EQ(seen.reservations[0].deadline, seconds(30));
  Plan plan;
  plan.reservations = {{"b", GrantState::granted, 1536 * kMiB}};
  world->apply(plan);
  play(1);
  EXPECT_EQ(seen.reservations.size(), 1U) << "it is kept until the guest starts";
  play(12);
  EXPECT_TRUE(seen.reservations.empty());
  ASSERT_EQ(seen.guests.size(), 2U);
  EXPECT_EQ(seen.guests[1].target, 1536 * kMiB);
  EXPECT_NEAR(mib(seen.guests[1].actual), 1536, 1);
  EXPECT_FALSE(world->reservations()[0].false_accept);
}

TEST_F(WorldTest, ADeniedGuestNeverStarts) {
  make("guests:\n  - {name: a}\n  - {name: b, reservation: {at: 1s}}\n");
  play(2);
  Plan plan;
  plan.reservations = {{"b", GrantState::denied, {}}};
  world->apply(plan);
  play(60);
  EXPECT_EQ(seen.guests.size(), 1U);
  EXPECT_TRUE(seen.reservations.empty());
}

TEST_F(WorldTest, AGuestThatTheHostKilledIsStartedAgain) {
  make(
      "host: {memory: 2GiB, own: {constant: 200MiB}, swap: {size: 64MiB}}\n"
      "guests:\n  - {name: a, memory: 2GiB, min: 0B, anon: {points: [[0s, 300MiB], [5s, 1800MiB]]}}\n"
      "  - {name: b, memory: 1GiB, min: 0B, anon: {constant: 600MiB}}\n");
  bool gone = false;
  for (int i = 0; i < 40; ++i) {
    play(1);
    gone = gone || seen.guests.size() == 1;
  }
  EXPECT_TRUE(gone);
  EXPECT_GE(world->host().counters().oom_kills, 1);
  EXPECT_TRUE(world->expected(0)) << "its demand counts while it is away";
}

TEST_F(WorldTest, GuestsShareWhatTheHostCanInstall) {
  make(
      "host: {memory: 3GiB, own: {constant: 300MiB}, swap: {device: hdd, size: 1GiB}}\n"
      "guests:\n  - {name: vm, count: 3, memory: 2GiB, min: 0B, anon: {points: [[0s, 300MiB], [5s, 300MiB], "
      "[6s, 1500MiB]]}}\n");
  play(10);
  const double first = world->guests()[0].memory().anon;
  const double last = world->guests()[2].memory().anon;
  EXPECT_NEAR(first, last, 0.02 * first) << "nobody is served first for its place in the list";
}

/// Balloons thrown about at random on random hosts with everything that can go wrong there.
TEST_F(WorldTest, MemoryIsNeitherMadeNorLostWhateverHappens) {
  for (std::uint64_t seed = 1; seed <= kRandomWorlds; ++seed) {
    SCOPED_TRACE(seed);
    scenario = generate(seed, {.guests = 8, .overcommit = 2.5, .duration = std::chrono::minutes(4)});
    world.emplace(scenario, seed);
    Random random(seed);
    while (!world->done()) {
      play(2);
      for (std::size_t i = 0; i < seen.guests.size(); ++i) {
        if (random.chance(0.3)) world->command(i, Bytes{random.below(seen.guests[i].memory.count())});
      }
      for (const GuestPlant& guest : world->guests()) {
        const GuestMemory& memory = guest.memory();
        for (const double part : {memory.anon, memory.hot, memory.cold, memory.kernel, memory.free_backed,
                                  memory.free_unbacked, memory.balloon, memory.swapped, memory.merged,
                                  memory.host_swapped_idle, memory.host_swapped_working})
          ASSERT_GE(part, -1.0) << guest.spec().name;
        ASSERT_LE(memory.host_swapped(), memory.backed() + 1) << guest.spec().name;
        ASSERT_LE(memory.swapped, static_cast<double>(guest.spec().swap.size) + 1) << guest.spec().name;
      }
      ASSERT_GE(world->host().memory().free, -1.0);
    }
  }
}

}  // namespace
}  // namespace balloon::policy::sim
