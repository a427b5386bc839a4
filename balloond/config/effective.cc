// SPDX-License-Identifier: Apache-2.0
#include "balloond/config/effective.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "policy/rules/policy_text.h"
#include "policy/rules/size_rule.h"

namespace balloon::daemon {
namespace {

/// JSON's texts are YAML's.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string millis(std::chrono::nanoseconds duration) {
  return fmt::format("{}ms", std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

std::string qmp_text(const QmpSockets& sockets) {
  const std::string where =
      sockets.path.empty()
          ? fmt::format("directory: {}, pattern: {}", quoted(sockets.directory), quoted(sockets.pattern))
          : fmt::format("path: {}", quoted(sockets.path));
  const std::string proxmox =
      sockets.proxmox.empty() ? "" : fmt::format(", proxmox: {}", quoted(sockets.proxmox));
  return fmt::format("    - {{{}, exclusive: {}{}}}\n", where, sockets.exclusive, proxmox);
}

std::string rule_text(const char* role, const std::optional<AccessRule>& rule) {
  if (!rule) return {};
  return fmt::format("  {}: {{users: {}, groups: {}}}\n", role, nlohmann::json(rule->users).dump(),
                     nlohmann::json(rule->groups).dump());
}

}  // namespace

std::string effective_config(const Config& config) {
  const DaemonConfig& daemon = config.daemon;
  std::string out = fmt::format("socket:\n  path: {}\n  mode: \"{:04o}\"\n", quoted(daemon.socket_path),
                                daemon.socket_mode);
  if (!daemon.socket_group.empty()) out += fmt::format("  group: {}\n", quoted(daemon.socket_group));
  const ReadSocketConfig& read = daemon.read_socket;
  if (!read.path.empty()) {
    out += fmt::format("read_socket:\n  path: {}\n  mode: \"{:04o}\"\n", quoted(read.path), read.mode);
    if (!read.group.empty()) out += fmt::format("  group: {}\n", quoted(read.group));
  }
  if (const AccessConfig& access = daemon.access; access != AccessConfig()) {
    out += "access:\n" + rule_text("link", access.link) + rule_text("read", access.read) +
           rule_text("reserve", access.reserve) + rule_text("operate", access.operate);
  }
  if (!daemon.metrics_listen.empty())
    out += fmt::format("metrics:\n  listen: {}\n", quoted(daemon.metrics_listen));
  out += fmt::format("control:\n  period: {}\n  stats_interval: {}\n  dry_run: {}\n", millis(daemon.period),
                     millis(daemon.stats_interval), daemon.dry_run);
  if (!daemon.policy_path.empty()) out += fmt::format("policy: {}\n", quoted(daemon.policy_path));
  if (!daemon.journal.directory.empty()) {
    out += fmt::format("journal:\n  directory: {}\n  file_size: {}\n  total_size: {}\n",
                       quoted(daemon.journal.directory), policy::rules::exact_bytes(daemon.journal.file_size),
                       policy::rules::exact_bytes(daemon.journal.total_size));
  }
  if (!daemon.reservations_file.empty())
    out += fmt::format("reservations:\n  file: {}\n", quoted(daemon.reservations_file));
  if (!daemon.needs_directory.empty())
    out += fmt::format("needs:\n  directory: {}\n", quoted(daemon.needs_directory));
  if (!daemon.qmp.empty() || !daemon.libvirt.empty()) out += "backends:\n";
  if (!daemon.qmp.empty()) out += "  qmp:\n";
  for (const QmpSockets& sockets : daemon.qmp) out += qmp_text(sockets);
  if (!daemon.libvirt.empty()) out += "  libvirt:\n";
  for (const LibvirtHost& host : daemon.libvirt) out += fmt::format("    - {{uri: {}}}\n", quoted(host.uri));
  out += fmt::format("log_level: {}\n", daemon.log_level);
  return out + "---\n" + policy::rules::policy_text(config.policy);
}

}  // namespace balloon::daemon
