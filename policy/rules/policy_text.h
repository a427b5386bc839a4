// SPDX-License-Identifier: Apache-2.0
// A policy as the YAML that says the same, with everything that was left out: what is in force.
#pragma once

#include <string>

#include "policy/rules/policy_file.h"

namespace balloon::policy::rules {

/// Shares of the host's memory in `host` are written as the sizes that they came to. Drop-ins are part of it,
/// and the shadow is named.
std::string policy_text(const PolicyFile& policy);

}  // namespace balloon::policy::rules
