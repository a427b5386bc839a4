// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/signal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "policy/sim/physics.h"

namespace balloon::policy::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::DoubleNear;

Signal play(const Term& term, Time shift = Time{}, std::uint64_t seed = 1, Time duration = minutes(10)) {
  return {SignalSpec{term}, shift, seed, duration};
}

Term points(std::vector<Term::Point> all, bool steps = false) {
  Term term;
  term.kind = Term::Kind::points;
  term.points = std::move(all);
  term.steps = steps;
  return term;
}

TEST(Signal, WithoutTermsIsZero) { EXPECT_EQ(Signal().at(seconds(5)), 0); }

TEST(Signal, GoesInLinesFromPointToPoint) {
  Signal signal = play(points({{seconds(10), 100}, {seconds(20), 300}}));
  EXPECT_EQ(signal.at(Time{}), 100);
  EXPECT_EQ(signal.at(seconds(15)), 200);
  EXPECT_EQ(signal.at(seconds(99)), 300);
  EXPECT_EQ(signal.at(seconds(15)), 200) << "going back in time must be allowed";
}

TEST(Signal, HoldsEachValueUntilTheNextWhenItGoesInSteps) {
  Signal signal = play(points({{Time{}, 100}, {seconds(20), 300}}, true));
  EXPECT_EQ(signal.at(milliseconds(19'999)), 100);
  EXPECT_EQ(signal.at(seconds(20)), 300);
}

TEST(Signal, SquareIsHighForItsDutyFromItsPhaseOn) {
  Term square;
  square.kind = Term::Kind::square;
  square.value = 10;
  square.high = 20;
  square.period = seconds(100);
  square.duty = 0.3;
  square.phase = seconds(50);
  square.rise = seconds(4);
  Signal signal = play(square);
  EXPECT_EQ(signal.at(seconds(49)), 10);
  EXPECT_EQ(signal.at(seconds(52)), 15) << "halfway up";
  EXPECT_EQ(signal.at(seconds(60)), 20);
  EXPECT_EQ(signal.at(seconds(82)), 15) << "halfway down";
  EXPECT_EQ(signal.at(seconds(160)), 20) << "a period later";
}

TEST(Signal, SineSwingsAboutItsMean) {
  Term sine;
  sine.kind = Term::Kind::sine;
  sine.value = 100;
  sine.high = 50;
  sine.period = seconds(60);
  Signal signal = play(sine);
  EXPECT_THAT(signal.at(seconds(15)), DoubleNear(150, 1e-9));
  EXPECT_THAT(signal.at(seconds(45)), DoubleNear(50, 1e-9));
}

TEST(Signal, LeakGrowsUpToItsMost) {
  Term leak;
  leak.kind = Term::Kind::leak;
  leak.value = 100;
  leak.rate = 5;
  leak.phase = seconds(10);
  leak.high = 150;
  Signal signal = play(leak);
  EXPECT_EQ(signal.at(seconds(10)), 100);
  EXPECT_EQ(signal.at(seconds(14)), 120);
  EXPECT_EQ(signal.at(seconds(100)), 150);
}

TEST(Signal, AddsItsTermsUp) {
  SignalSpec spec = constant(7);
  spec.push_back(points({{Time{}, 1}}));
  EXPECT_EQ(Signal(spec, Time{}, 1, minutes(1)).at(seconds(3)), 8);
}

TEST(Signal, ShiftedHappensLater) {
  Signal signal = play(points({{Time{}, 0}, {seconds(10), 100}}), seconds(30));
  EXPECT_EQ(signal.at(seconds(35)), 50);
}

TEST(Signal, KnowsTheMostOfWhatIsToCome) {
  Signal signal = play(points({{Time{}, 0}, {seconds(10), 100}}));
  EXPECT_EQ(signal.most(seconds(3), seconds(2), milliseconds(100)), 50);
}

// The statistics of a clang build scaled to a 2 GiB guest, as published with HyperAlloc: see scenario S6.
class BuildTrace : public testing::Test {
 protected:
  static constexpr int kStepsPerTrace = 60'000;
  static constexpr double kMean = 0.71;

  std::vector<double> trace(std::uint64_t seed, milliseconds step) {
    Term build;
    build.kind = Term::Kind::build;
    build.value = kMean;
    build.high = 1.80;
    Signal signal = play(build, Time{}, seed, step * kStepsPerTrace);
    std::vector<double> values;
    for (int i = 0; i < kStepsPerTrace; ++i) values.push_back(signal.at(step * i));
    return values;
  }

  static double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }

  static double correlation(const std::vector<double>& values, std::size_t lag) {
    const double middle = mean(values);
    double together = 0;
    double alone = 0;
    for (std::size_t i = 0; i + lag < values.size(); ++i) {
      together += (values[i] - middle) * (values[i + lag] - middle);
      alone += (values[i] - middle) * (values[i] - middle);
    }
    return together / alone;
  }
};

TEST_F(BuildTrace, HasThePublishedDistribution) {
  std::vector<double> values = trace(3, milliseconds(1700));
  const double middle = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - middle) * (value - middle);
  EXPECT_THAT(middle, DoubleNear(0.71, 0.04));
  EXPECT_THAT(std::sqrt(squares / static_cast<double>(values.size())), DoubleNear(0.28, 0.04));
  std::ranges::sort(values);
  EXPECT_THAT(values[values.size() * 90 / 100], DoubleNear(1.07, 0.08));
  EXPECT_THAT(values[values.size() * 99 / 100], DoubleNear(1.59, 0.15));
  EXPECT_LE(values.back(), 1.80);
}

TEST_F(BuildTrace, HasThePublishedAutocorrelation) {
  const std::vector<double> values = trace(4, milliseconds(1700));
  EXPECT_THAT(correlation(values, 1), DoubleNear(0.95, 0.04));
  EXPECT_THAT(correlation(values, 6), DoubleNear(0.82, 0.07));   // 10 s
  EXPECT_THAT(correlation(values, 18), DoubleNear(0.68, 0.08));  // 30 s
  EXPECT_THAT(correlation(values, 35), DoubleNear(0.63, 0.10));  // 60 s
  EXPECT_THAT(correlation(values, 71), DoubleNear(0.36, 0.12));  // 120 s
}

TEST_F(BuildTrace, RisesAboutAsFastAsARealBuild) {
  const std::vector<double> values = trace(5, milliseconds(1700));
  // The published trace is 41 min long: the most of such a stretch, in the mean over many.
  const std::size_t stretch = 41 * 60 * 10 / 17;
  double sum = 0;
  std::size_t stretches = 0;
  for (std::size_t from = 0; from + stretch < values.size(); from += stretch, ++stretches) {
    double most = 0;
    for (std::size_t i = from + 1; i < from + stretch; ++i) most = std::max(most, values[i] - values[i - 1]);
    sum += most;
  }
  EXPECT_THAT(sum / static_cast<double>(stretches), DoubleNear(0.31, 0.12));
}

TEST_F(BuildTrace, IsTheSameForTheSameSeedOnly) {
  EXPECT_EQ(trace(9, milliseconds(1000)), trace(9, milliseconds(1000)));
  EXPECT_NE(trace(9, milliseconds(1000)), trace(10, milliseconds(1000)));
}

TEST_F(BuildTrace, IsTheSameForAllThatBuildTheSameThing) {
  Term build;
  build.kind = Term::Kind::build;
  build.value = 1;
  build.trace = 7;
  EXPECT_EQ(play(build, Time{}, 1).at(seconds(100)), play(build, Time{}, 2).at(seconds(100)));
  EXPECT_EQ(play(build, seconds(50), 1).at(seconds(150)), play(build, Time{}, 2).at(seconds(100)));
}

}  // namespace
}  // namespace balloon::policy::sim
