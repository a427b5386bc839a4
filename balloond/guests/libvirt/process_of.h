// SPDX-License-Identifier: Apache-2.0
// Which process of this host runs a domain.
#pragma once

#include <string>

#include "balloond/guests/guest.h"

namespace balloon::daemon::libvirt {

/// By the file in which libvirt keeps its number, whose process must have the domain's UUID in its command
/// line; else by looking for such a process. Unknown where there is none. `root` goes before /proc and /run:
/// empty but for tests.
Peer process_of(const std::string& uri, const std::string& name, const std::string& uuid,
                const std::string& root = "");

}  // namespace balloon::daemon::libvirt
