// SPDX-License-Identifier: Apache-2.0
// What Proxmox' configuration of a guest says of its memory: /etc/pve/qemu-server/ID.conf (qm.conf(5)).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "balloond/guests/guest.h"
#include "base/error.h"

namespace balloon::daemon::proxmox {

struct Guest {
  std::string name;              ///< empty: it has none
  Bytes memory = 512 * kMiB;     ///< boot memory; qm.conf(5) has the default
  std::optional<Bytes> balloon;  ///< the least it has; 0: it has no balloon device
  std::uint64_t shares = 1000;   ///< 0: no automatic ballooning

  /// What it always has.
  Bytes least() const { return std::min(balloon.value_or(memory), memory); }
  /// Its shares as a policy's weight: 100 where nobody said otherwise.
  std::uint64_t weight() const;
};

/// Fails when `text` is no guest's configuration.
Result<Guest> read_configuration(const std::string& text);
/// Waits for `limit` at most: /etc/pve is a filesystem in a process (FUSE) that can hang, and who reads it
/// has other guests to look after.
Result<Guest> read_configuration_file(const std::string& path,
                                      std::chrono::milliseconds limit = std::chrono::seconds(1));

/// As labels for policies with `limits: hypervisor` (policy/rules/values.h).
std::map<std::string, std::string> limits_of(const Guest& guest);

}  // namespace balloon::daemon::proxmox
