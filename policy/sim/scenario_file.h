// SPDX-License-Identifier: Apache-2.0
// Scenario files: YAML, taken whole or refused with file, line, column and what was expected.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "policy/sim/scenario.h"

namespace balloon::policy::sim {

/// `name` is how the scenario and its complaints are called.
Result<Scenario> parse_scenario(std::string_view text, const std::string& name);
/// The scenario's name is the file's, without folder and .yaml.
Result<Scenario> load_scenario(const std::string& path);

}  // namespace balloon::policy::sim
