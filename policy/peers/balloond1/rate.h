// SPDX-License-Identifier: Apache-2.0
// Time and counters as rates. Everything here stands any input: time that jumps, counters that run backwards.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>

#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

inline double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

/// Time from `then` to `now`; the longest time there is when it does not fit.
inline std::chrono::nanoseconds since(Time then, Time now) {
  std::int64_t difference = 0;
  if (__builtin_sub_overflow(now.count(), then.count(), &difference))
    difference = now > then ? std::numeric_limits<std::int64_t>::max() : 0;
  return std::chrono::nanoseconds(difference);
}

/// Whether `now` lies within `span` after `then`. A `then` that is yet to come does not count.
inline bool within(Time then, Time now, std::chrono::nanoseconds span) {
  return now >= then && since(then, now) < span;
}

/// 2 to the power of `x`. Not std::exp2, which may differ in the last bit from one machine to another: a
/// recording must replay to the same plans everywhere. By the series of e^x, exact to a few units in the last
/// place.
inline double power_of_two(double x) {
  constexpr double kSmallest = -1021;  // near the smallest normal numbers; less is nothing
  if (!(x > kSmallest)) return 0;
  if (x > 1023) return std::numeric_limits<double>::infinity();
  constexpr auto kTerms = [] {  // ln(2)^k / k!; the first that is left out adds less than 1e-17
    std::array<double, 15> terms{1};
    for (std::size_t k = 1; k < terms.size(); ++k)
      terms[k] = terms[k - 1] * std::numbers::ln2 / static_cast<double>(k);
    return terms;
  }();
  const auto whole = static_cast<std::int64_t>(x < 0 ? x - 0.5 : x + 0.5);
  const double part = x - static_cast<double>(whole);
  double sum = 0;
  for (std::size_t k = kTerms.size(); k-- > 0;) sum = sum * part + kTerms[k];
  return sum * std::bit_cast<double>(static_cast<std::uint64_t>(whole + 1023) << 52);
}

/// What is left of a quantity after `elapsed_s` seconds.
inline double decay(double half_life_s, double elapsed_s) {
  return half_life_s > 0 ? power_of_two(-elapsed_s / half_life_s) : 0.0;
}

/// A cumulative counter that someone else keeps.
class Counter {
 public:
  /// How much it rose since the sample before. 0 for the first one, when it is absent (2^64-1 is QEMU's way
  /// to say so), and when it ran backwards: then it was reset (the guest rebooted) or is a lie. The first one
  /// after an absence is a first one again: what it rose meanwhile did not come in one sample's time.
  double rise(std::optional<std::uint64_t> value) { return value ? rise_to(*value) : absent(); }
  double rise(std::optional<Bytes> size) { return size ? rise_to(size->count()) : absent(); }

 private:
  double rise_to(std::uint64_t value) {
    if (value == std::numeric_limits<std::uint64_t>::max()) return absent();
    const double risen = last_ && value > *last_ ? static_cast<double>(value - *last_) : 0.0;
    last_ = value;
    return risen;
  }
  double absent() {
    last_.reset();
    return 0;
  }

  std::optional<std::uint64_t> last_;
};

}  // namespace balloon::policy::peers::balloond1
