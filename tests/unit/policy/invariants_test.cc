// SPDX-License-Identifier: Apache-2.0
// The invariants on many random hosts: whatever guests do and say, limits and budget hold, those in need are
// not taken from while others idle, and constant inputs come to rest.
#include <gtest/gtest.h>

#include <map>

#include "random_host.h"

namespace balloon::policy {
namespace {

constexpr int kHostileTicks = 10;

/// What one decision did to a host.
struct Outcome {
  const Snapshot& seen;
  const Plan& plan;
  std::vector<Bytes> target;  ///< after the moves

  Outcome(const Snapshot& snapshot, const Plan& decided, const std::vector<Move>& moves)
      : seen(snapshot), plan(decided) {
    for (const auto& guest : seen.guests) target.push_back(guest.target);
    for (const Move& move : moves) target[move.guest] = move.target;
  }
};

/// Invariant 1. A stuck balloon's target is put where the balloon is, as is that of a guest whose shrink is
/// called off; apart from that nothing leaves the limits, or goes further from them.
void expect_limits(const Outcome& outcome) {
  for (std::size_t i = 0; i < outcome.target.size(); ++i) {
    const auto& guest = outcome.seen.guests[i];
    const Bytes target = outcome.target[i];
    if (target == guest.target) continue;
    ASSERT_TRUE(target >= std::min(guest.limits.min, guest.target) || target == guest.actual) << guest.name;
    ASSERT_LE(target, guest.memory) << guest.name;
    if (target > std::max(guest.actual, guest.target) && !guest.pin) {
      ASSERT_LE(target, guest.limits.max) << guest.name;
    }
  }
}

/// Invariant 2: what guests were promised, or have and have touched, and what is kept for reservations does
/// not grow beyond the budget.
void expect_budget(const Outcome& outcome) {
  double before = 0;
  double after = 0;
  double shrunk = 0;
  double kept = 0;
  for (std::size_t i = 0; i < outcome.target.size(); ++i) {
    const auto& guest = outcome.seen.guests[i];
    const GuestPlan& mine = outcome.plan.guests[i];
    const bool promised = mine.state == GuestState::controlled || mine.state == GuestState::pinned;
    // What was promised is there, and all that a guest has touched of what it has.
    const auto counted = [&](Bytes target) {
      const Bytes most = std::max(guest.actual, target);
      const Bytes touched = most - std::min(most, mine.untouched);
      return static_cast<double>(promised ? std::max(target, touched) : touched);
    };
    const Bytes has = std::max(guest.actual, guest.target);
    ASSERT_LE(mine.untouched, has - std::min(has, guest.on_host.resident)) << guest.name;
    ASSERT_LE(mine.untouched, has - std::min(has, guest.limits.min)) << guest.name;
    before += counted(guest.target);
    shrunk += counted(std::min(guest.target, outcome.target[i]));
    after += counted(outcome.target[i]);
  }
  for (const auto& reservation : outcome.plan.reservations) kept += static_cast<double>(reservation.granted);
  const auto budget = static_cast<double>(outcome.plan.budget);
  ASSERT_LE(after + kept, std::max(budget, shrunk + kept)) << "a grow was not paid for";
  ASSERT_LE(after + kept, std::max(budget, before + kept));
}

/// Invariant 3: while the host itself is not short, a guest under pressure is not asked for anything before
/// all that idles has been asked for.
void expect_rescue(const Outcome& outcome) {
  if (outcome.plan.level != HostState::normal && outcome.plan.level != HostState::tight) return;
  bool pressed_gives = false;
  bool idle_left = false;
  for (std::size_t i = 0; i < outcome.target.size(); ++i) {
    const auto& guest = outcome.seen.guests[i];
    const GuestPlan& mine = outcome.plan.guests[i];
    if (mine.state != GuestState::controlled || guest.on_host.pinned || !guest.limits.group.empty()) continue;
    const bool outside = guest.target < guest.limits.min || guest.target > guest.limits.max;
    const Bytes settling = std::min(guest.actual, guest.target);
    const Bytes next = std::min(guest.actual, outcome.target[i]);
    if (outside || settling > guest.limits.max) continue;
    if (mine.why.pressure != Pressure::none && next < settling) pressed_gives = true;
    if (mine.why.pressure == Pressure::none && settling > std::max(mine.share, mine.need) + 512 * kMiB &&
        next > std::max(mine.share, mine.need) + 512 * kMiB)
      idle_left = true;
  }
  ASSERT_FALSE(pressed_gives && idle_left);
}

void expect_reservations(const Plan& plan, std::map<std::string, Bytes>& granted) {
  for (const auto& reservation : plan.reservations) {
    if (reservation.state == GrantState::denied) {
      ASSERT_EQ(reservation.granted, Bytes{0});
    }
    const auto before = granted.find(reservation.id);
    if (before != granted.end()) {
      ASSERT_EQ(reservation.state, GrantState::granted) << "a grant is not taken back";
      ASSERT_EQ(reservation.granted, before->second);
    } else if (reservation.state == GrantState::granted) {
      granted[reservation.id] = reservation.granted;
    }
  }
}

TEST(Invariants, HoldOnAnyHostWithAnyGuestsWhateverTheySay) {
  for (std::uint64_t seed = 0; seed < kHostileHosts; ++seed) {
    SCOPED_TRACE(seed);
    RandomHost random(seed);
    FakeHost host = random.make(Bytes{0}, 8);
    Engine engine({});
    std::map<std::string, Bytes> granted;
    for (int tick = 0; tick < kHostileTicks; ++tick) {
      random.live(host);
      Snapshot seen = host.snapshot();
      for (auto& guest : seen.guests) {
        if (random.one_in(4)) random.lie(guest);
      }
      if (random.one_in(4)) random.lie(seen.host);
      if (random.one_in(10)) seen.now -= std::chrono::hours(2);
      if (random.one_in(50)) seen.now = random.any_time();
      Plan plan = engine.decide(seen);
      const auto moves = admit(plan, seen.guests);
      const Outcome outcome(seen, plan, moves);
      expect_limits(outcome);
      expect_budget(outcome);
      expect_rescue(outcome);
      expect_reservations(plan, granted);
      if (HasFatalFailure()) FAIL() << "seed " << seed << " tick " << tick;
      for (const Move& move : moves) host.guests[move.guest].seen.target = move.target;
      for (auto& guest : host.guests) {
        guest.seen.actual = random.between(std::min(guest.seen.actual, guest.seen.target),
                                           std::max(guest.seen.actual, guest.seen.target));
      }
      host.now += std::chrono::milliseconds(random.between(10, 3000));
    }
  }
}

TEST(Invariants, CommittedMemoryComesUnderTheBudgetUnlessMinimumsForbidIt) {
  for (std::uint64_t seed = 0; seed < kSettlingHosts; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(256 * kMiB, 24);
    Engine engine({});
    Plan plan;
    for (int tick = 0; tick < 90; ++tick) plan = host.step(engine);
    if (plan.state == HostState::infeasible) {
      if (!host.groups.empty()) continue;  // a group's minimum may stand above its guests'
      for (const auto& guest : host.guests) {
        ASSERT_EQ(guest.seen.target, guest.seen.limits.min) << "seed " << seed << " " << guest.seen.name;
      }
    } else {
      ASSERT_LE(host.committed(), plan.budget) << "seed " << seed;
    }
  }
}

TEST(Invariants, ConstantInputsComeToRestWithoutOvershootOrReversal) {
  for (std::uint64_t seed = 0; seed < kSettlingHosts; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(256 * kMiB, 24);
    Engine engine({});
    for (int tick = 0; tick < 120; ++tick) host.step(engine);
    std::vector<Bytes> rest;
    for (const auto& guest : host.guests) rest.push_back(guest.seen.target);
    for (int tick = 0; tick < 60; ++tick) {
      host.step(engine);
      ASSERT_TRUE(host.last_moves.empty())
          << "seed " << seed << " still moves after two minutes of constant inputs: "
          << host.guests[host.last_moves[0].guest].seen.name << " " << tick;
    }
    for (std::size_t i = 0; i < host.guests.size(); ++i) ASSERT_EQ(host.guests[i].seen.target, rest[i]);
  }
}

TEST(Invariants, ARestartTakesNothingFromAHostAtRest) {
  for (std::uint64_t seed = 0; seed < kSettlingHosts; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(256 * kMiB, 24);
    {
      Engine before({});
      for (int tick = 0; tick < 120; ++tick) host.step(before);
    }
    Engine after({});
    std::vector<Bytes> was;
    for (const auto& guest : host.guests) was.push_back(guest.seen.target);
    host.step(after);
    for (std::size_t i = 0; i < host.guests.size(); ++i) {
      ASSERT_EQ(host.guests[i].seen.target, was[i]) << "seed " << seed << " " << host.guests[i].seen.name;
    }
  }
}

TEST(Invariants, TheSameSnapshotsGiveTheSamePlans) {
  for (std::uint64_t seed = 0; seed < kSettlingHosts; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(Bytes{0}, 8);
    Engine one({});
    Engine two({});
    for (int tick = 0; tick < 10; ++tick) {
      random.live(host);
      Snapshot seen = host.snapshot();
      for (auto& guest : seen.guests) {
        if (random.one_in(4)) random.lie(guest);
      }
      Plan a = one.decide(seen);
      const Plan b = two.decide(seen);
      ASSERT_EQ(a.state, b.state);
      ASSERT_EQ(a.budget, b.budget);
      for (std::size_t i = 0; i < a.guests.size(); ++i) {
        ASSERT_EQ(a.guests[i].target, b.guests[i].target) << "seed " << seed;
        ASSERT_EQ(a.guests[i].reason, b.guests[i].reason) << "seed " << seed;
      }
      for (const Move& move : admit(a, seen.guests)) host.guests[move.guest].seen.target = move.target;
      host.settle(std::chrono::seconds(1));
    }
  }
}

TEST(Invariants, DirectionChangesAreBoundedUnderAnOscillatingLoad) {
  for (const int period : {2, 3, 5, 8, 13, 21, 40, 120, 240}) {
    FakeHost host(8 * kGiB);
    for (int i = 0; i < 6; ++i) host.add(2 * kGiB, 150 * kMiB, {256 * kMiB, 2 * kGiB, 100});
    Engine engine({});
    std::vector<int> direction(6, 0);
    int reversals = 0;
    constexpr int kSeconds = 480;
    for (int second = 0; second < kSeconds; ++second) {
      for (std::size_t i = 0; i < 2; ++i) {
        const bool high = (second / std::max(1, period / 2) + static_cast<int>(i)) % 2 == 0;
        host.guests[i].used = high ? 1500 * kMiB : 200 * kMiB;
      }
      std::vector<Bytes> before;
      for (const auto& guest : host.guests) before.push_back(guest.seen.target);
      host.step(engine);
      for (std::size_t i = 0; i < 6; ++i) {
        const Bytes now = host.guests[i].seen.target;
        const int went = now > before[i] ? 1 : now < before[i] ? -1 : direction[i];
        if (direction[i] != 0 && went != direction[i]) ++reversals;
        direction[i] = went;
      }
    }
    // What comes back is expected to come back again: each time it does it is left for half as long again.
    EXPECT_LE(reversals, 30) << "period " << period;
  }
}

}  // namespace
}  // namespace balloon::policy
