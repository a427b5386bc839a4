// SPDX-License-Identifier: Apache-2.0
// Guests that do not play along: they lie, are blind, stuck, slow or pinned, and their neighbours do not pay
// for it.
#include <gtest/gtest.h>

#include "fake_host.h"

namespace balloon::policy {
namespace {

constexpr GuestLimits kLimits{256 * kMiB, 2 * kGiB, 100};

/// Six guests of 2 GiB on 8 GiB whose neighbours' use fits.
FakeHost six_on_eight(Bytes used) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < 6; ++i) host.add(2 * kGiB, used, kLimits);
  return host;
}

/// The snapshot of `host`, spoilt by `spoil`, decided and carried out.
template <typename Spoil>
Plan step(FakeHost& host, Engine& engine, Spoil spoil) {
  Snapshot seen = host.snapshot();
  spoil(seen);
  Plan plan = engine.decide(seen);
  for (const Move& move : admit(plan, seen.guests)) host.guests[move.guest].seen.target = move.target;
  host.settle(std::chrono::seconds(1));
  return plan;
}

TEST(GuestsApart, ALiarThatReportsNothingAvailableGetsNoMoreThanItTouched) {
  FakeHost host = six_on_eight(1100 * kMiB);
  host.guests[0].used = 300 * kMiB;
  Engine engine({});
  Plan plan;
  for (int i = 0; i < 120; ++i)
    plan = step(host, engine, [](Snapshot& seen) { seen.guests[0].stats->available = Bytes{0}; });
  EXPECT_EQ(plan.guests[0].why.trust, Trust::limited);
  EXPECT_LE(host.guests[0].seen.actual, 800 * kMiB);
  for (std::size_t i = 1; i < 6; ++i) EXPECT_GE(host.guests[i].seen.actual, 1100 * kMiB) << i;
}

TEST(GuestsApart, AHogIsContainedAtItsShare) {
  FakeHost host = six_on_eight(1000 * kMiB);
  Engine engine({});
  for (unsigned i = 0; i < 400; ++i) {
    host.guests[0].used = std::min(2 * kGiB, 200 * kMiB + i * 5 * kMiB);
    host.step(engine);
  }
  for (std::size_t i = 1; i < 6; ++i) EXPECT_GE(host.guests[i].seen.actual, 1000 * kMiB) << i;
  EXPECT_GE(host.guests[0].seen.actual, 1200 * kMiB) << "what the others do not need, it may have";
}

TEST(GuestsApart, NonsenseFromOneChangesNothingForTheOthers) {
  for (const Bytes nonsense : {Bytes{0}, 3 * kGiB, Bytes::max()}) {
    FakeHost honest = six_on_eight(700 * kMiB);
    FakeHost spoilt = six_on_eight(700 * kMiB);
    Engine one({});
    Engine two({});
    for (int i = 0; i < 90; ++i) {
      step(honest, one, [](Snapshot&) {});
      step(spoilt, two, [&](Snapshot& seen) {
        seen.guests[3].stats->total = nonsense;
        seen.guests[3].stats->available = nonsense;
        seen.guests[3].stats->swap_in = i % 2 == 0 ? Bytes::max() - Bytes{1} : Bytes{0};
      });
    }
    for (const std::size_t i : {0, 1, 2, 4, 5}) {
      EXPECT_GE(spoilt.guests[i].seen.actual + 32 * kMiB, honest.guests[i].seen.actual)
          << format_bytes(nonsense);
      EXPECT_GE(spoilt.guests[i].seen.actual, 700 * kMiB);
    }
  }
}

TEST(GuestsApart, ABlindGuestIsJudgedByWhatTheHostSees) {
  FakeHost host = six_on_eight(600 * kMiB);
  host.guests[0].answers = false;
  Engine engine({});
  Plan plan;
  for (int i = 0; i < 50; ++i) plan = host.step(engine);
  EXPECT_EQ(host.guests[0].seen.target, 2 * kGiB) << "held at first";
  for (int i = 0; i < 120; ++i) plan = host.step(engine);
  EXPECT_EQ(plan.guests[0].why.source, Source::host);
  EXPECT_EQ(plan.guests[0].state, GuestState::controlled);
  EXPECT_LT(host.guests[0].seen.actual, kGiB);
  EXPECT_GT(host.guests[0].seen.actual, 600 * kMiB);
  host.guests[0].used = 1500 * kMiB;
  for (int i = 0; i < 30; ++i) host.step(engine);
  EXPECT_GE(host.guests[0].seen.actual, 1500 * kMiB) << "and is given more as it touches more";
}

TEST(GuestsApart, APinnedGuestIsNotAskedForWhatItCannotGive) {
  FakeHost host = six_on_eight(300 * kMiB);
  host.guests[0].seen.on_host.pinned = true;
  Engine engine({});
  for (int i = 0; i < 60; ++i) host.step(engine);
  EXPECT_EQ(host.guests[0].seen.target, 2 * kGiB);
  EXPECT_LT(host.guests[1].seen.actual, 700 * kMiB);
}

TEST(GuestsApart, WhatAStuckBalloonFreedCountsAndTheGuestCanStillGrow) {
  FakeHost host = six_on_eight(300 * kMiB);
  host.guests[0].sticks_at = 1200 * kMiB;
  Engine engine({});
  Plan plan;
  int stuck = 0;
  for (int i = 0; i < 90; ++i) {
    plan = host.step(engine);
    stuck += plan.guests[0].state == GuestState::stuck ? 1 : 0;
  }
  EXPECT_GT(stuck, 20);
  EXPECT_EQ(host.guests[0].seen.actual, 1200 * kMiB);
  host.guests[0].used = 1700 * kMiB;
  for (int i = 0; i < 5; ++i) host.step(engine);
  EXPECT_GT(host.guests[0].seen.actual, 1700 * kMiB) << "not after the wait for the next attempt";
}

TEST(GuestsApart, TheShareOfAStuckGuestIsNotLentBackAndForth) {
  FakeHost host = six_on_eight(1500 * kMiB);
  host.guests[0].used = 200 * kMiB;
  host.guests[0].speed = Bytes{0};
  Engine engine({});
  for (int i = 0; i < 60; ++i) host.step(engine);
  int reversals = 0;
  std::vector<int> direction(6, 0);
  for (int i = 0; i < 600; ++i) {
    std::vector<Bytes> before;
    for (const auto& guest : host.guests) before.push_back(guest.seen.target);
    host.step(engine);
    for (std::size_t g = 1; g < 6; ++g) {
      const Bytes now = host.guests[g].seen.target;
      const int went = now > before[g] ? 1 : now < before[g] ? -1 : direction[g];
      reversals += direction[g] != 0 && went != direction[g] ? 1 : 0;
      direction[g] = went;
    }
  }
  EXPECT_LE(reversals, 5) << "of five neighbours, in ten minutes with several attempts";
}

TEST(GuestsApart, OneThatKilledForWantOfMemoryIsLetOutAtOnce) {
  FakeHost host = six_on_eight(300 * kMiB);
  Engine engine({});
  for (int i = 0; i < 90; ++i)
    step(host, engine, [](Snapshot& seen) { seen.guests[1].stats->oom_kills = 3; });
  ASSERT_LT(host.guests[1].seen.actual, 700 * kMiB);
  const Plan plan = step(host, engine, [](Snapshot& seen) { seen.guests[1].stats->oom_kills = 4; });
  EXPECT_EQ(plan.guests[1].why.signal, Signal::oom_kill);
  EXPECT_EQ(host.guests[1].seen.target, 2 * kGiB);
}

TEST(GuestsApart, ACriticalGuestIsGivenItsWholeDeficitInOneDecision) {
  FakeHost host = six_on_eight(300 * kMiB);
  Engine engine({});
  for (int i = 0; i < 90; ++i) host.step(engine);
  host.guests[2].used = 1800 * kMiB;
  host.step(engine);  // it has filled what it has
  EXPECT_GE(host.guests[2].seen.target, 1800 * kMiB);
}

}  // namespace
}  // namespace balloon::policy
