// SPDX-License-Identifier: Apache-2.0
// Which libvirtds have guests of this host, by the daemon's configuration.
#pragma once

#include <string>

namespace balloon::daemon {

struct LibvirtHost {
  std::string uri;  ///< local: "qemu:///system"

  bool operator==(const LibvirtHost&) const = default;
};

}  // namespace balloon::daemon
