// SPDX-License-Identifier: Apache-2.0
// Both files together: taken whole or refused with every complaint about either.
#pragma once

#include <string>

#include "balloond/config/daemon_config.h"
#include "policy/rules/policy_file.h"

namespace balloon::daemon {

struct Config {
  DaemonConfig daemon;
  policy::rules::PolicyFile policy;
};

/// Loads the daemon's file at `path` and the policy file that it names.
Result<Config> load_config(const std::string& path, Bytes host_memory);

}  // namespace balloon::daemon
