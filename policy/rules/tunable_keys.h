// SPDX-License-Identifier: Apache-2.0
// The keys under `engine`, `states` and `host`: each of the engine's tunables by name.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/strict_yaml.h"
#include "policy/tunables.h"

namespace balloon::policy::rules {

/// What holds on a host of that size where nothing is said.
policy::Tunables default_tunables(Bytes host_memory);

/// Reads the sections host, engine and states. `host_memory` bounds what the host may keep for itself, and is
/// what its shares are of. `ksm`: whether the daemon runs KSM, which is no business of the engine's.
void read_tunables(yaml::Map& root, Bytes host_memory, policy::Tunables& out, bool& ksm);

/// Every tunable by its key, as it would be written: {"engine.hold", "10s"}.
std::vector<std::pair<std::string, std::string>> describe(const policy::Tunables& tunables);

}  // namespace balloon::policy::rules
