// SPDX-License-Identifier: Apache-2.0
// Signals as scenario files write them.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/strict_yaml.h"
#include "policy/sim/signal.h"

namespace balloon::policy::sim {

/// What a signal's values are.
enum class Unit : std::uint8_t { bytes, ratio };

/// Reads the signal `key` of `map`: a mapping of terms, which add up. Complains about what makes no sense.
void read_signal(yaml::Map& map, std::string_view key, Unit unit, SignalSpec& out);

}  // namespace balloon::policy::sim
