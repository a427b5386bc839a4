// SPDX-License-Identifier: Apache-2.0
// A quantity over simulated time: what a guest's programs want, what a host's own processes use.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "policy/types.h"

namespace balloon::policy::sim {

/// One term of a signal, as a scenario says it. Values are bytes, or a ratio where the scenario says so.
struct Term {
  enum class Kind : std::uint8_t { constant, points, square, sine, build, leak };
  struct Point {
    Time at{};
    double value = 0;
  };

  Kind kind = Kind::constant;
  double value = 0;         ///< constant; low of a square; mean of a sine or build; start of a leak
  double high = 0;          ///< of a square; amplitude of a sine; the most of a build or leak (0: none)
  double rate = 0;          ///< of a leak, a second
  Time period{};            ///< of a square or sine
  Time phase{};             ///< a square rises, and a sine passes its mean upwards, at this time
  double duty = 0.5;        ///< part of its period that a square is high
  Time rise{};              ///< how long a square's edges take
  std::uint32_t trace = 0;  ///< of a build: guests with the same number build the same thing; 0: each its own
  bool steps = false;       ///< points hold their value until the next, instead of a line to it
  std::vector<Point> points;  ///< in the order of time
};

/// The sum of its terms; nothing when there are none.
using SignalSpec = std::vector<Term>;

SignalSpec constant(double value);

/// A signal being played. Times should be asked for in rising order: then each costs O(1).
class Signal {
 public:
  Signal() = default;
  /// `shift` is how much later than written it happens; `seed` and `duration` are for build traces.
  Signal(const SignalSpec& spec, Time shift, std::uint64_t seed, Time duration);

  double at(Time now);
  /// The most within [now, now + ahead], looked at every `step`.
  double most(Time now, Time ahead, Time step);
  bool is_constant() const { return terms_.empty(); }

 private:
  struct Playing {
    Term term;
    std::size_t cursor = 0;
  };
  double constant_ = 0;
  Time shift_{};
  std::vector<Playing> terms_;
};

}  // namespace balloon::policy::sim
