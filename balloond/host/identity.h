// SPDX-License-Identifier: Apache-2.0
// Which host this is.
#pragma once

#include <string>

namespace balloon::daemon {

struct HostIdentity {
  std::string
      id{};  ///< the same after each boot, and no other host's; does not give the machine's own id away
  std::string name{};  ///< for people

  static HostIdentity read();
};

}  // namespace balloon::daemon
