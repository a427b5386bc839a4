// SPDX-License-Identifier: Apache-2.0
// The configuration in force, as the files that say the same with everything that was left out.
#pragma once

#include <string>

#include "balloond/config/config.h"

namespace balloon::daemon {

/// Two YAML documents: the daemon's own, and its policy.
std::string effective_config(const Config& config);

}  // namespace balloon::daemon
