// SPDX-License-Identifier: Apache-2.0
// The command line.
#pragma once

#include <optional>

#include "vmm/machine/config.h"

namespace balloon::vmm {

/// The flags, or the exit status with which the program is to end at once (help, version: 0; bad usage: 2).
/// Says why.
struct CommandLine {
  Flags flags;
  bool check_config = false;  ///< judge the configuration, and end
  std::optional<int> exit_status;
};
CommandLine parse_command_line(int argc, char** argv);

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

}  // namespace balloon::vmm
