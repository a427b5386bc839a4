// SPDX-License-Identifier: Apache-2.0
// Who may do what over the daemon's sockets, as it is written.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace balloon::daemon {

/// Users and groups by name or number.
struct AccessRule {
  std::vector<std::string> users{};
  std::vector<std::string> groups{};
  bool operator==(const AccessRule&) const = default;
};

/// An unset rule: for link and read whoever may connect, for reserve and operate root and the daemon's user.
struct AccessConfig {
  std::optional<AccessRule> link{};
  std::optional<AccessRule> read{};
  std::optional<AccessRule> reserve{};
  std::optional<AccessRule> operate{};
  bool operator==(const AccessConfig&) const = default;
};

}  // namespace balloon::daemon
