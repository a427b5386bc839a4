// Random scenarios: hosts of many sizes with guests of many kinds. The same seed gives the same scenario.
#pragma once

#include "policy/sim/scenario.h"

namespace balloon::policy::sim {

struct GeneratorOptions {
  std::uint32_t guests = 0;  ///< 0: drawn from 2 to 40
  double overcommit = 0;     ///< Σ memory of guests over the host's; 0: drawn from 1.1 to 3.0
  Time duration = std::chrono::minutes(10);
};

Scenario generate(std::uint64_t seed, const GeneratorOptions& options);

}  // namespace balloon::policy::sim
