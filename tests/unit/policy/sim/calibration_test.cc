// SPDX-License-Identifier: Apache-2.0
// The speeds of a machine that is not the one of physics.h, and guests that share its CPUs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "policy/sim/scenario_file.h"
#include "policy/sim/world.h"

namespace balloon::policy::sim {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;

/// Guests of 2 GiB on a large host of one CPU, each with nothing but its kernel at first.
class SpeedsTest : public testing::Test {
 protected:
  SpeedsTest() {
    scenario.duration = std::chrono::minutes(5);
    scenario.host.memory = 64 * kGiB;
    scenario.speeds.cpus = 1;
    scenario.speeds.install = 100 * kMiBd;
    scenario.speeds.inflate_free = 60 * kMiBd;
  }

  GuestSpec& add_guest(double wanted_mib) {
    GuestSpec& guest = scenario.guests.emplace_back();
    guest.name = std::string(1, static_cast<char>('a' + scenario.guests.size()));
    guest.free_page_reporting = false;
    guest.command_latency = Time{};
    if (wanted_mib > 0) guest.anon = wants_from_a_second_on(wanted_mib);
    return guest;
  }

  static SignalSpec wants_from_a_second_on(double mib) {
    Term term;
    term.kind = Term::Kind::points;
    term.steps = true;
    term.points = {{Time{}, 0}, {std::chrono::seconds(1), mib * kMiBd}};
    return {term};
  }

  void play_until(double seconds) {
    if (!world) world.emplace(scenario, 1);
    while (world->now() < std::chrono::milliseconds(static_cast<int>(seconds * 1000))) world->step();
  }

  void shrink(std::size_t guest, Bytes to) {
    world->snapshot(snapshot);
    world->command(guest, to);
  }

  double anon(std::size_t guest) const { return world->guests()[guest].memory().anon / kMiBd; }
  double balloon(std::size_t guest) const { return world->guests()[guest].memory().balloon / kMiBd; }

  Scenario scenario;
  std::optional<World> world;
  Snapshot snapshot;
};

TEST_F(SpeedsTest, AGuestThatHasTheCpuForItselfGrowsAtFullSpeed) {
  add_guest(1000);
  add_guest(0);
  play_until(4);
  EXPECT_THAT(anon(0), DoubleNear(300, 11));
}

TEST_F(SpeedsTest, GuestsThatAreBusyShareTheCpu) {
  for (int i = 0; i < 3; ++i) add_guest(1000);
  play_until(4);
  for (const std::size_t guest : {0U, 1U, 2U}) EXPECT_THAT(anon(guest), DoubleNear(100, 4));
}

TEST_F(SpeedsTest, WithoutCpusEachGuestHasItsOwn) {
  scenario.speeds.cpus = 0;
  for (int i = 0; i < 3; ++i) add_guest(1000);
  play_until(4);
  for (const std::size_t guest : {0U, 1U, 2U}) EXPECT_THAT(anon(guest), DoubleNear(300, 11));
}

TEST_F(SpeedsTest, ABalloonAndTheProgramsOfAGuestShareItsCpu) {
  add_guest(1000);
  play_until(1);
  shrink(0, 1536 * kMiB);
  play_until(3);
  EXPECT_THAT(anon(0), DoubleNear(100, 6));
  EXPECT_THAT(balloon(0), DoubleNear(60, 4));
}

TEST_F(SpeedsTest, WhatItsProgramsDoBesideTakesItsTime) {
  add_guest(1000).busy = constant(1);
  play_until(4);
  EXPECT_THAT(anon(0), DoubleNear(150, 6));
}

TEST_F(SpeedsTest, TheBalloonWaitsWhileMuchFreedMemoryIsReported) {
  GuestSpec& guest = add_guest(0);
  guest.free_page_reporting = true;
  Term term;
  term.kind = Term::Kind::points;
  term.steps = true;
  term.points = {{Time{}, 1024 * kMiBd}, {std::chrono::seconds(1), 0}};
  guest.anon = {term};
  scenario.speeds.report = 256 * kMiBd;
  play_until(1);
  shrink(0, 1024 * kMiB);
  play_until(4);
  EXPECT_LT(balloon(0), 10);
  const double resident = world->guests()[0].memory().resident() / kMiBd;
  EXPECT_THAT(resident, DoubleNear(1024 - 3 * 256 + 123, 30))
      << "reported at its speed, with its kernel left";
  play_until(10);
  EXPECT_GT(balloon(0), 300);
}

TEST(SpeedsFile, AreReadAndStrict) {
  const auto complaint = [](const std::string& speeds) {
    const auto scenario =
        parse_scenario("summary: s\nduration: 1m\nguests: [{name: a}]\nspeeds: " + speeds + "\n", "f.yaml");
    return scenario ? "accepted" : scenario.error().message;
  };
  EXPECT_EQ(complaint("{cpus: 1, install: 280MiB, touch: 1GiB, inflate_free: 1MiB, inflate_cache: 1MiB, "
                      "deflate: 1MiB, file_read: 1MiB, background_reclaim: 1MiB, report: 1MiB, retry: 1s, "
                      "anon_reuse: 1m}"),
            "accepted");
  EXPECT_THAT(complaint("{install: 0B}"), HasSubstr("expected a speed above 0"));
  EXPECT_THAT(complaint("{report: 12}"), HasSubstr("unit"));
  EXPECT_THAT(complaint("{retry: 0s}"), HasSubstr("expected a time above 0"));
  EXPECT_THAT(complaint("{instal: 1MiB}"), HasSubstr("did you mean 'install'"));
  EXPECT_THAT(complaint("{cpus: -1}"), HasSubstr("cpus"));
}

TEST(SpeedsFile, LeftOutTheyAreThoseOfHardware) {
  const auto scenario = parse_scenario("summary: s\nduration: 1m\nguests: [{name: a}]\n", "f.yaml");
  ASSERT_TRUE(scenario);
  EXPECT_EQ(scenario->speeds.cpus, 0U);
  EXPECT_EQ(scenario->speeds.install, kInstall);
  EXPECT_EQ(scenario->speeds.anon_reuse, kAnonReuse);
}

}  // namespace
}  // namespace balloon::policy::sim
