// SPDX-License-Identifier: Apache-2.0
// What no law can be better than: at each moment, what guests use beyond what there is for them.
#pragma once

#include <cstdint>

#include "policy/sim/scenario.h"

namespace balloon::policy::sim {

/// A lower bound of Scores::cost in this scenario under any law: seconds. docs/simulator.md has the argument.
double cost_bound(const Scenario& scenario, std::uint64_t seed);

}  // namespace balloon::policy::sim
