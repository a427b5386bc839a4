// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/signal.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "policy/sim/random.h"

namespace balloon::policy::sim {
namespace {

double seconds(Time time) { return std::chrono::duration<double>(time).count(); }

// The memory of a clang build, as published with HyperAlloc (EuroSys '25): log-normal with a standard
// deviation of 0.4 of its mean; autocorrelation 0.95 after 1.7 s, 0.82 after 10 s, 0.68 after 30 s, 0.63
// after 60 s, 0.36 after 120 s. Two processes with exponential autocorrelation come near that: slow phases of
// the build, and the bursts of single compilers and linkers.
constexpr double kBuildSpread = 0.38;  // standard deviation of the logarithm
constexpr double kSlowPart = 0.78;     // of the variance
constexpr double kSlowSeconds = 180;
constexpr double kBurstSeconds = 6;
constexpr Time kBuildStep = std::chrono::milliseconds(1700);
constexpr std::uint64_t kSharedTraces = 606;  // seed of the traces that several guests play
constexpr double kBuildLeast = 0.15;          // of the mean: what stays between two phases

/// Points of a build trace of the given mean, no value above `most` (0: no bound).
std::vector<Term::Point> build_trace(double mean, double most, std::uint64_t seed, Time duration) {
  Random random(seed);
  const double slow_keep = std::exp(-seconds(kBuildStep) / kSlowSeconds);
  const double burst_keep = std::exp(-seconds(kBuildStep) / kBurstSeconds);
  double slow = random.normal();
  double burst = random.normal();
  const double centre = std::log(mean) - kBuildSpread * kBuildSpread / 2;
  std::vector<Term::Point> points;
  points.reserve(static_cast<std::size_t>(duration / kBuildStep) + 2);
  for (Time at{}; at <= duration + kBuildStep; at += kBuildStep) {
    const double z = std::sqrt(kSlowPart) * slow + std::sqrt(1 - kSlowPart) * burst;
    double value = std::max(std::exp(centre + kBuildSpread * z), kBuildLeast * mean);
    if (most > 0) value = std::min(value, most);
    points.push_back({at, value});
    slow = slow_keep * slow + std::sqrt(1 - slow_keep * slow_keep) * random.normal();
    burst = burst_keep * burst + std::sqrt(1 - burst_keep * burst_keep) * random.normal();
  }
  return points;
}

double at_points(const Term& term, std::size_t& cursor, Time now) {
  const auto& points = term.points;
  if (points.empty()) return 0;
  if (cursor >= points.size() || points[cursor].at > now) cursor = 0;
  while (cursor + 1 < points.size() && points[cursor + 1].at <= now) ++cursor;
  const Term::Point& from = points[cursor];
  if (term.steps || cursor + 1 == points.size() || now <= from.at) return from.value;
  const Term::Point& to = points[cursor + 1];
  return from.value + (to.value - from.value) * (seconds(now - from.at) / seconds(to.at - from.at));
}

/// Time since the period began that `now` is in.
Time within_period(Time now, Time period) {
  const Time rest = now % period;
  return rest < Time{} ? rest + period : rest;
}

double at_square(const Term& term, Time now) {
  const Time at = within_period(now - term.phase, term.period);
  const Time high =
      std::chrono::nanoseconds(std::llround(static_cast<double>(term.period.count()) * term.duty));
  const double rise = std::max(seconds(term.rise), 1e-9);
  const double part =
      at < high ? std::min(1.0, seconds(at) / rise) : std::max(0.0, 1.0 - seconds(at - high) / rise);
  return term.value + (term.high - term.value) * part;
}

double at_sine(const Term& term, Time now) {
  const double turn = seconds(within_period(now - term.phase, term.period)) / seconds(term.period);
  return std::max(0.0, term.value + term.high * std::sin(2 * std::numbers::pi * turn));
}

double at_leak(const Term& term, Time now) {
  const double leaked = term.value + term.rate * std::max(0.0, seconds(now - term.phase));
  return term.high > 0 ? std::min(leaked, term.high) : leaked;
}

}  // namespace

SignalSpec constant(double value) {
  Term term;
  term.value = value;
  return {term};
}

Signal::Signal(const SignalSpec& spec, Time shift, std::uint64_t seed, Time duration) : shift_(shift) {
  std::uint64_t stream = 0;
  for (const Term& term : spec) {
    ++stream;
    if (term.kind == Term::Kind::constant) {
      constant_ += term.value;
      continue;
    }
    Playing playing{term, 0};
    if (term.kind == Term::Kind::build) {
      playing.term.kind = Term::Kind::points;
      const std::uint64_t own = term.trace > 0 ? mix_seed(kSharedTraces, term.trace) : mix_seed(seed, stream);
      playing.term.points = build_trace(term.value, term.high, own, duration);
    }
    terms_.push_back(std::move(playing));
  }
}

double Signal::at(Time now) {
  double sum = constant_;
  for (Playing& playing : terms_) {
    const Time local = now - shift_;
    switch (playing.term.kind) {
      case Term::Kind::constant:
        break;
      case Term::Kind::build:
      case Term::Kind::points:
        sum += at_points(playing.term, playing.cursor, local);
        break;
      case Term::Kind::square:
        sum += at_square(playing.term, local);
        break;
      case Term::Kind::sine:
        sum += at_sine(playing.term, local);
        break;
      case Term::Kind::leak:
        sum += at_leak(playing.term, local);
        break;
    }
  }
  return sum;
}

double Signal::most(Time now, Time ahead, Time step) {
  if (terms_.empty()) return constant_;
  double most = 0;
  for (Time at = now; at <= now + ahead; at += step) most = std::max(most, this->at(at));
  return most;
}

}  // namespace balloon::policy::sim
