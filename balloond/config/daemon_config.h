// SPDX-License-Identifier: Apache-2.0
// The daemon's own configuration: where it listens, how often it decides, which policy file it follows.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "balloond/config/access_config.h"
#include "balloond/config/journal_config.h"
#include "balloond/config/libvirt_config.h"
#include "balloond/config/qmp_config.h"
#include "base/error.h"
#include "base/strict_yaml.h"

namespace balloon::daemon {

/// sun_path holds 108 bytes with its terminating zero (unix(7)).
inline constexpr std::size_t kSocketPathMax = 107;
/// Faster than this costs CPU for nothing: statistics do not come more often.
inline constexpr std::chrono::nanoseconds kPeriodMin = std::chrono::milliseconds(100);
/// Slower than this a guest in need would wait longer than its programs do.
inline constexpr std::chrono::nanoseconds kPeriodMax = std::chrono::seconds(60);

/// A further socket, over which nothing can be changed.
struct ReadSocketConfig {
  std::string path;  ///< empty: there is none
  mode_t mode = 0666;
  std::string group;  ///< empty: the daemon's own group
  bool operator==(const ReadSocketConfig&) const = default;
};

struct DaemonConfig {
  std::string socket_path = "/run/balloond/balloond.sock";
  mode_t socket_mode = 0660;
  std::string socket_group;  ///< empty: the daemon's own group
  ReadSocketConfig read_socket;
  AccessConfig access;
  std::string metrics_listen;  ///< "127.0.0.1:9477", "[::1]:9477" or "unix:/path"; empty: no metrics server
  std::chrono::nanoseconds period = std::chrono::seconds(1);
  std::chrono::nanoseconds stats_interval = std::chrono::seconds(1);
  std::string
      policy_path;  ///< as written made relative to the file's own directory; empty: defaults for every guest
  JournalConfig journal;
  std::string reservations_file;     ///< where grants are kept; empty: they end with the daemon
  std::string needs_directory;       ///< where is kept what guests needed; empty: it ends with the daemon
  std::vector<QmpSockets> qmp;       ///< where guests of QEMU are
  std::vector<LibvirtHost> libvirt;  ///< where domains of libvirt are
  bool dry_run = false;              ///< everything is decided, nothing is applied
  std::string log_level = "info";
};

/// Reads `document`, which stands at `path`, into `config`. The error lists every complaint, one a line; what
/// was good is in `config` even then.
Result<void> read_daemon_config(const yaml::Document& document, const std::string& path,
                                DaemonConfig& config);

}  // namespace balloon::daemon
