// SPDX-License-Identifier: Apache-2.0
// Where QMP sockets of guests are, by the daemon's configuration.
#pragma once

#include <string>

namespace balloon::daemon {

struct QmpSockets {
  std::string path;           ///< of one socket; empty: all in `directory`
  std::string directory;      ///< whose sockets' names match `pattern`
  std::string pattern = "*";  ///< of a shell (fnmatch(3)); a leading period is never matched by a wildcard
  bool exclusive = false;     ///< nobody else uses them: connections are kept
  std::string proxmox{};      ///< directory of Proxmox' configurations, NAME.conf of NAME.qmp; empty: none

  bool operator==(const QmpSockets&) const = default;
};

}  // namespace balloon::daemon
