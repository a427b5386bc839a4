// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/bytes.h"
#include "policy/sim/scenario_file.h"

namespace balloon::policy::sim {
namespace {

using testing::DoubleNear;

constexpr double kMib = 1 << 20;

TEST(Jain, IsOneWhenAllAreEqualAndOneNthWhenOneHasAll) {
  EXPECT_EQ(jain_index({0.5, 0.5, 0.5}), 1);
  EXPECT_EQ(jain_index({1, 0, 0, 0}), 0.25);
  EXPECT_THAT(jain_index({1, 0.5}), DoubleNear(0.9, 1e-9));
  EXPECT_EQ(jain_index({}), 1);
}

TEST(Percentile, IsTheNearestRank) {
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0.5), 3);
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0.99), 5);
  EXPECT_EQ(percentile({7}, 0.5), 7);
  EXPECT_EQ(percentile({}, 0.5), 0);
}

TEST(ScoreList, HasADefinitionAndAnOwnNameForEach) {
  std::set<std::string_view> names;
  for (const ScoreInfo& score : kScores) {
    EXPECT_TRUE(names.insert(score.name).second) << score.name;
    EXPECT_FALSE(score.definition.empty()) << score.name;
  }
  EXPECT_EQ(sizeof(Scores) / sizeof(double), kScores.size()) << "every score is listed";
}

// Laws are compared by it, today's with those of years ago: a change of the formula would change every
// ranking.
TEST(Cost, IsFrozen) {
  EXPECT_EQ(kCostOfGuestOom, 30);
  EXPECT_EQ(kCostOfHostOom, 300);
  Scores scores;
  scores.deficit = 1000;
  scores.stall = 200;
  scores.oom_guest = 3;
  scores.oom_host = 2;
  EXPECT_EQ(cost_of(scores), 1000 + 200 + 3 * 30 + 2 * 300);
  for (const ScoreInfo& score : kScores) {
    Scores only;
    only.*score.value = 1;
    const bool counts = score.name == "deficit" || score.name == "stall" || score.name.starts_with("oom_");
    EXPECT_EQ(cost_of(only) != 0, counts) << score.name;
  }
}

/// Plays series of demand and deficit, one value a second, in MiB.
class RiseWatchTest : public testing::Test {
 protected:
  void play(double demand, double deficit, double length, bool judged = true) {
    for (int i = 0; i < static_cast<int>(std::lround(length / kStepSeconds)); ++i) {
      watch.step(demand * kMib, deficit * kMib);
      if (++steps_ % 10 == 0) watch.second(demand * kMib, judged);
    }
  }
  RiseWatch watch{2048 * kMib};

 private:
  int steps_ = 0;
};

TEST_F(RiseWatchTest, MeasuresHowLongAGuestIsShortAfterARise) {
  play(300, 0, 20);
  play(1000, 500, 3);
  play(1000, 40, 10);  // less than 5 %: satisfied
  ASSERT_EQ(watch.times().size(), 1U);
  EXPECT_THAT(watch.times()[0], DoubleNear(3.0, 0.11));
  EXPECT_EQ(watch.unsatisfied(), 0);
}

TEST_F(RiseWatchTest, SatisfiedAtOnceTakesNoTime) {
  play(300, 0, 20);
  play(1000, 0, 10);
  EXPECT_THAT(watch.times(), testing::ElementsAre(0.0));
}

TEST_F(RiseWatchTest, ARampIsOneRise) {
  play(300, 0, 20);
  for (int i = 1; i <= 20; ++i) play(300 + 50 * i, i % 2 ? 200 : 0, 1);
  play(1300, 0, 5);
  ASSERT_EQ(watch.times().size(), 1U);
  EXPECT_GT(watch.times()[0], 5) << "all the time that it was short on the way counts";
}

TEST_F(RiseWatchTest, IgnoresSmallAndSlowRises) {
  play(300, 0, 20);
  play(350, 100, 20);
  for (int i = 0; i < 100; ++i) play(350 + 5 * i, 100, 1);
  EXPECT_TRUE(watch.times().empty());
}

TEST_F(RiseWatchTest, CountsWhatWasNeverSatisfied) {
  play(300, 0, 20);
  play(1000, 500, 30);
  play(300, 0, 5);  // given up
  play(300, 0, 20);
  play(1000, 500, 4);
  watch.end();
  EXPECT_THAT(watch.times(), testing::ElementsAre(DoubleNear(30, 0.2), DoubleNear(4, 0.2)));
  EXPECT_EQ(watch.unsatisfied(), 2);
}

TEST_F(RiseWatchTest, DoesNotCountRisesOutsideTheJudgedTime) {
  play(300, 0, 20, false);
  play(1000, 500, 5, false);
  watch.end();
  EXPECT_TRUE(watch.times().empty());
}

/// A world in which nobody decides, or the test does.
class ScoreKeeperTest : public testing::Test {
 protected:
  void make(const std::string& text) {
    auto read = parse_scenario("summary: test\n" + text, "test.yaml");
    ASSERT_TRUE(read) << read.error().message;
    scenario = std::move(*read);
    world.emplace(scenario, 1);
    keeper.emplace(*world);
  }
  void play(int time) {
    for (int i = 0; i < time * 10 && !world->done(); ++i) {
      world->step();
      keeper->step(*world);
    }
  }
  void set(std::size_t guest, Bytes target) {
    Snapshot snapshot;
    world->snapshot(snapshot);
    const Bytes from = snapshot.guests[guest].target;
    if (world->command(guest, target)) keeper->resized(*world, world->guest_at(guest), from, target);
  }
  Scores finish() { return keeper->finish(*world); }

  Scenario scenario;
  std::optional<World> world;
  std::optional<ScoreKeeper> keeper;
};

TEST_F(ScoreKeeperTest, CountsADeficitOverTime) {
  make(
      "duration: 100s\nhost: {memory: 8GiB}\nguests:\n"
      "  - {name: a, memory: 2GiB, min: 0B, anon: {constant: 1000MiB}, kernel: {constant: 100MiB}}\n");
  set(0, 600 * kMiB);
  play(100);
  const Scores scores = finish();
  // About 500 MiB and a little for the guest's watermark are missing for 100 s, less the first few seconds.
  EXPECT_THAT(scores.deficit, DoubleNear(510.0 / 1024 * 100, 3));
  EXPECT_GT(scores.stall, 80);
  EXPECT_THAT(scores.satisfaction_min, DoubleNear(1 - 510.0 / 1100, 0.05));
  EXPECT_THAT(keeper->guests()[0].deficit, DoubleNear(scores.deficit, 1e-9));
}

TEST_F(ScoreKeeperTest, CountsOnlyTheJudgedTime) {
  make(
      "duration: 100s\nhost: {memory: 8GiB}\njudge: [{from: 90s, to: 100s}]\nguests:\n"
      "  - {name: a, memory: 2GiB, min: 0B, anon: {constant: 1000MiB}, kernel: {constant: 100MiB}}\n");
  set(0, 600 * kMiB);
  play(100);
  const Scores scores = finish();
  EXPECT_THAT(scores.deficit, DoubleNear(510.0 / 1024 * 10, 0.5));
  EXPECT_EQ(scores.resizes, 0) << "the target was set before";
}

TEST_F(ScoreKeeperTest, CountsResizesReversalsAndWhatMoved) {
  make(
      "duration: 100s\nhost: {memory: 8GiB}\nguests:\n  - {name: a, memory: 2GiB, anon: {constant: "
      "100MiB}}\n");
  for (const std::uint64_t mib : {1000, 800, 1200, 1300, 900}) {
    set(0, mib * kMiB);
    play(5);
  }
  const Scores scores = finish();
  EXPECT_EQ(scores.resizes, 5);
  EXPECT_EQ(scores.reversals, 2);
  EXPECT_THAT(scores.moved, DoubleNear((1048 + 200 + 400 + 100 + 400) / 1024.0, 0.01));
}

TEST_F(ScoreKeeperTest, CountsTheTimeBelowTheGuaranteedMinimum) {
  make(
      "duration: 100s\nhost: {memory: 8GiB}\nguests:\n  - {name: a, memory: 2GiB, min: 1GiB, anon: "
      "{constant: 100MiB}}\n");
  set(0, kGiB);
  play(10);
  set(0, kGiB - kMiB);
  play(10);
  EXPECT_THAT(finish().min_violations, DoubleNear(10, 0.2));
}

TEST_F(ScoreKeeperTest, EntitlesByWeightWhenNotAllFits) {
  make(
      "duration: 60s\nhost: {memory: 4GiB, own: {constant: 300MiB}}\nguests:\n"
      "  - {name: a, memory: 4GiB, min: 0B, weight: 300, swap: {size: 4GiB}, anon: {constant: 3000MiB}}\n"
      "  - {name: b, memory: 4GiB, min: 0B, weight: 100, swap: {size: 4GiB}, anon: {constant: 3000MiB}}\n");
  // Sizes as the weights have it: a has what it is entitled to, and so has b, though far from what it wants.
  set(0, 2780 * kMiB);
  set(1, 930 * kMiB);
  play(60);
  const Scores scores = finish();
  EXPECT_GT(scores.jain, 0.99);
  EXPECT_GT(scores.satisfaction_min, 0.9);
  EXPECT_GT(scores.deficit, 60);
}

TEST_F(ScoreKeeperTest, FindsUnfairnessWhenTheWeakIsServedFirst) {
  make(
      "duration: 60s\nhost: {memory: 4GiB, own: {constant: 300MiB}}\nguests:\n"
      "  - {name: a, memory: 4GiB, min: 0B, weight: 300, swap: {size: 4GiB}, anon: {constant: 3000MiB}}\n"
      "  - {name: b, memory: 4GiB, min: 0B, weight: 100, swap: {size: 4GiB}, anon: {constant: 3000MiB}}\n");
  set(0, 930 * kMiB);
  set(1, 2780 * kMiB);
  play(60);
  EXPECT_LT(finish().jain, 0.9);
}

TEST_F(ScoreKeeperTest, CountsOutOfMemoryKills) {
  make(
      "duration: 30s\nhost: {memory: 8GiB}\nguests:\n"
      "  - {name: a, memory: 2GiB, min: 0B, swap: {size: 0B}, balloon: {deflate_on_oom: false},\n"
      "     anon: {points: [[0s, 100MiB], [10s, 100MiB], [12s, 1GiB]]}}\n");
  set(0, 500 * kMiB);
  play(15);
  const Scores scores = finish();
  EXPECT_EQ(scores.oom_guest, 1);
  EXPECT_GE(scores.cost, kCostOfGuestOom);
}

TEST_F(ScoreKeeperTest, JudgesReservations) {
  make(
      "duration: 60s\nhost: {memory: 2GiB}\nguests:\n"
      "  - {name: first, memory: 1GiB, min: 0B, anon: {constant: 800MiB}, reservation: {at: 5s}}\n"
      "  - {name: second, memory: 1GiB, min: 0B, anon: {constant: 100MiB}, reservation: {at: 10s}}\n");
  const auto grant_all = [&](int times) {
    for (int i = 0; i < times; ++i) {
      Snapshot snapshot;
      world->snapshot(snapshot);
      Plan plan;
      for (const Reservation& reservation : snapshot.reservations)
        plan.reservations.push_back({reservation.id, GrantState::granted, reservation.max});
      world->apply(plan);
      play(1);
    }
  };
  play(7);
  grant_all(40);
  const Scores scores = finish();
  EXPECT_EQ(scores.reservations, 2);
  EXPECT_EQ(scores.granted, 2);
  EXPECT_EQ(scores.false_accepts, 1) << "when the second came, the first's memory was not there any more";
  EXPECT_THAT(scores.grant_p99, DoubleNear(2, 0.3)) << "the first was asked for at 5 s and granted at 7 s";
}

}  // namespace
}  // namespace balloon::policy::sim
