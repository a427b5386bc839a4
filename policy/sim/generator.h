// SPDX-License-Identifier: Apache-2.0
// Random scenarios: hosts of many sizes with guests of many kinds. The same seed gives the same scenario.
//
// Generator 1 knows no effects of the plant (effects.h): all of them are off, and its figures are those of
// the simulator's first version. Generator 2 draws hosts and demands likewise, sizes further apart and more
// guests that something is the matter with, and then what generator 1 does not have: files that are read
// again, noise, devices, caches that count as used, lost connections.
#pragma once

#include "policy/sim/scenario.h"

namespace balloon::policy::sim {

struct GeneratorOptions {
  std::uint32_t generator = 2;  ///< 1 or 2
  std::uint32_t guests = 0;     ///< 0: drawn from 2 to 40
  double overcommit = 0;        ///< Σ memory of guests over the host's; 0: drawn from 1.1 to 3.0
  Time duration = std::chrono::minutes(10);
};

Scenario generate(std::uint64_t seed, const GeneratorOptions& options);

/// What generator 2 adds to a scenario (generator2.cc).
void add_effects(std::uint64_t seed, Scenario& scenario);

}  // namespace balloon::policy::sim
