// SPDX-License-Identifier: Apache-2.0
// Random numbers that are the same everywhere: the standard's distributions differ between libraries.
#pragma once

#include <array>
#include <cstdint>

namespace balloon::policy::sim {

/// xoshiro256** (Blackman and Vigna, 2018), seeded by SplitMix64 as its authors advise.
class Random {
 public:
  explicit Random(std::uint64_t seed);
  std::uint64_t next();
  /// [0, 1), 53 bits.
  double uniform();
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// 0 to count - 1; 0 when count is 0.
  std::uint64_t below(std::uint64_t count);
  bool chance(double probability) { return uniform() < probability; }
  /// Mean 0, standard deviation 1 (Box and Muller's polar method).
  double normal();
  /// Uniform in the exponent: as many between 1 and 2 as between 2 and 4.
  double log_uniform(double low, double high);

 private:
  std::array<std::uint64_t, 4> state_{};
};

/// A seed of its own for each of several streams of one run.
std::uint64_t mix_seed(std::uint64_t seed, std::uint64_t stream);

}  // namespace balloon::policy::sim
