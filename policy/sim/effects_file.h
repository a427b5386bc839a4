// SPDX-License-Identifier: Apache-2.0
// What a scenario says of the plant's effects, and of devices, whose costs are one of them.
#pragma once

#include "base/strict_yaml.h"
#include "policy/sim/devices.h"
#include "policy/sim/effects.h"

namespace balloon::policy::sim {

/// The scenario's `effects`: off, or a mapping of those that are other than their defaults.
void read_effects(yaml::Map& root, Effects& out);
/// A guest's own.
void read_guest_effects(yaml::Map& map, GuestEffects& out);
/// A swap device: one of the known ones with or without what they really cost, or figures of its own.
void read_swap(yaml::Map& map, bool device_costs, SwapDevice& out);
void read_disk(yaml::Map& map, Disk& out);

}  // namespace balloon::policy::sim
