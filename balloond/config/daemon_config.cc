// SPDX-License-Identifier: Apache-2.0
#include "balloond/config/daemon_config.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "base/bytes.h"

namespace balloon::daemon {
namespace {

void read_socket_path(const yaml::Value& value, std::string& out) {
  std::string path;
  if (!value.read(path)) return;
  if (!path.starts_with('/')) return value.complain(fmt::format("'{}' is not an absolute path", path));
  if (path.size() > kSocketPathMax) {
    return value.complain(fmt::format("{} characters are too long for a Unix socket: the most is {}",
                                      path.size(), kSocketPathMax));
  }
  out = path;
}

void read_mode(const yaml::Value& value, mode_t& out) {
  std::string text;
  if (!value.read(text)) return;
  unsigned mode = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  const bool octal =
      error == std::errc{} && end == text.data() + text.size() && (text.size() == 3 || text.size() == 4);
  if (!octal || mode > 0777)
    return value.complain(fmt::format("'{}' is not a file mode: write for example \"0660\"", text));
  out = mode;
}

bool is_port(std::string_view text) {
  unsigned port = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, port);
  return error == std::errc{} && end == last && port >= 1 && port <= 65535;
}

/// "127.0.0.1:9477" or "[::1]:9477"
bool is_address_and_port(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos || !is_port(std::string_view(text).substr(colon + 1))) return false;
  std::string host = text.substr(0, colon);
  const bool six = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (six) host = host.substr(1, host.size() - 2);
  in6_addr address{};  // has room for an in_addr, too
  return inet_pton(six ? AF_INET6 : AF_INET, host.c_str(), &address) == 1;
}

void read_listen(const yaml::Value& value, std::string& out) {
  constexpr std::string_view kUnix = "unix:";
  std::string text;
  if (!value.read(text)) return;
  const bool is_path = text.starts_with(kUnix);
  if (is_path && text.size() > kUnix.size() + kSocketPathMax)
    return value.complain(fmt::format("the most characters of a Unix socket's path are {}", kSocketPathMax));
  if (is_path ? text.substr(kUnix.size()).starts_with('/') : is_address_and_port(text)) {
    out = text;
    return;
  }
  value.complain(fmt::format(
      "'{}' is not an IPv4 or IPv6 address and port, nor a Unix socket: write for example 127.0.0.1:9477, "
      "[::1]:9477 or unix:/run/balloond/metrics.sock",
      text));
}

void read_period(const yaml::Value& value, std::chrono::nanoseconds& out) {
  std::chrono::nanoseconds period{};
  if (!value.read(period)) return;
  if (period < kPeriodMin || period > kPeriodMax) return value.complain("it must be from 100ms to 60s");
  out = period;
}

/// Smaller files would mostly repeat how they begin; larger ones are lost too much at once.
constexpr Bytes kJournalFileMin = kMiB;
constexpr Bytes kJournalFileMax = kGiB;

void read_absolute_path(const yaml::Value& value, std::string& out) {
  std::string path;
  if (!value.read(path)) return;
  if (!path.starts_with('/')) return value.complain(fmt::format("'{}' is not an absolute path", path));
  out = path;
}

void read_journal(yaml::Map& journal, JournalConfig& out) {
  journal.require("directory");
  journal.with("directory", [&](const yaml::Value& value) { read_absolute_path(value, out.directory); });
  journal.with("file_size", [&](const yaml::Value& value) {
    Bytes size{};
    if (!value.read_bytes(size)) return;
    if (size < kJournalFileMin || size > kJournalFileMax)
      return value.complain("it must be from 1MiB to 1GiB");
    out.file_size = size;
  });
  journal.bytes("total_size", out.total_size);
  if (out.total_size < 2 * out.file_size) {
    journal.complain(fmt::format("total_size {} is below two files of {}", format_bytes(out.total_size),
                                 format_bytes(out.file_size)));
  }
}

/// One entry of backends.qmp: a socket by its path, or those of a directory.
void read_qmp_sockets(const yaml::Value& value, std::vector<QmpSockets>& out) {
  QmpSockets sockets;
  bool path = false;
  bool directory = false;
  bool pattern = false;
  value.map([&](yaml::Map& entry) {
    entry.with("path", [&](const yaml::Value& text) {
      path = true;
      read_socket_path(text, sockets.path);
    });
    entry.with("directory", [&](const yaml::Value& text) {
      directory = true;
      read_absolute_path(text, sockets.directory);
    });
    entry.with("pattern", [&](const yaml::Value& text) {
      pattern = true;
      std::string read;
      if (!text.read(read)) return;
      if (read.empty() || read.contains('/')) return text.complain("it must be a pattern of file names");
      sockets.pattern = read;
    });
    entry.field("exclusive", sockets.exclusive);
    entry.with("proxmox", [&](const yaml::Value& text) { read_absolute_path(text, sockets.proxmox); });
    if (path == directory) entry.complain("it must have either path or directory");
    if (pattern && !directory) entry.complain("pattern goes with directory");
  });
  out.push_back(std::move(sockets));
}

/// One entry of backends.libvirt.
void read_libvirt_host(const yaml::Value& value, std::vector<LibvirtHost>& out) {
  LibvirtHost host;
  value.map([&](yaml::Map& entry) {
    entry.require("uri");
    entry.with("uri", [&](const yaml::Value& text) {
      if (!text.read(host.uri)) return;
      const auto scheme = host.uri.find("://");
      const std::string_view driver = std::string_view(host.uri).substr(0, scheme);
      const bool is_local = scheme != std::string::npos && host.uri.substr(scheme).starts_with(":///") &&
                            !driver.empty() && (!driver.contains('+') || driver.ends_with("+unix"));
      if (!is_local) {
        return text.complain(fmt::format(
            "'{}' is not a libvirt of this host: write for example qemu:///system, without a host's name",
            host.uri));
      }
      if (std::ranges::find(out, host) != out.end()) text.complain("it is listed already");
    });
  });
  out.push_back(std::move(host));
}

/// Users or groups of a rule of access.
void read_names(yaml::Map& rule, const char* key, std::vector<std::string>& out) {
  rule.list(key, [&](const yaml::Value& value) {
    std::string name;
    if (!value.read(name)) return;
    if (name.empty()) return value.complain("the name is empty");
    out.push_back(name);
  });
}

void read_access(yaml::Map& access, AccessConfig& out) {
  const auto rule = [&](const char* role, std::optional<AccessRule>& into) {
    access.map(role, [&](yaml::Map& map) {
      read_names(map, "users", into.emplace().users);
      read_names(map, "groups", into->groups);
    });
  };
  rule("link", out.link);
  rule("read", out.read);
  rule("reserve", out.reserve);
  rule("operate", out.operate);
}

void read_log_level(const yaml::Value& value, std::string& out) {
  static constexpr std::array levels{"debug", "info", "warning", "error"};
  std::string level;
  if (!value.read(level)) return;
  if (std::ranges::find(levels, level) == levels.end()) {
    return value.complain(fmt::format("'{}' is not one of debug, info, warning, error", level));
  }
  out = level;
}

}  // namespace

Result<void> read_daemon_config(const yaml::Document& document, const std::string& path,
                                DaemonConfig& config) {
  document.root([&](yaml::Map& root) {
    root.map("socket", [&](yaml::Map& socket) {
      socket.with("path", [&](const yaml::Value& value) { read_socket_path(value, config.socket_path); });
      socket.with("mode", [&](const yaml::Value& value) { read_mode(value, config.socket_mode); });
      socket.field("group", config.socket_group);
    });
    root.map("read_socket", [&](yaml::Map& socket) {
      socket.require("path");
      socket.with("path",
                  [&](const yaml::Value& value) { read_socket_path(value, config.read_socket.path); });
      socket.with("mode", [&](const yaml::Value& value) { read_mode(value, config.read_socket.mode); });
      socket.field("group", config.read_socket.group);
      if (config.read_socket.path == config.socket_path) socket.complain("path is that of socket");
    });
    root.map("access", [&](yaml::Map& access) { read_access(access, config.access); });
    root.map("metrics", [&](yaml::Map& metrics) {
      metrics.require("listen");
      metrics.with("listen", [&](const yaml::Value& value) { read_listen(value, config.metrics_listen); });
    });
    root.map("control", [&](yaml::Map& control) {
      control.with("period", [&](const yaml::Value& value) { read_period(value, config.period); });
      control.with("stats_interval",
                   [&](const yaml::Value& value) { read_period(value, config.stats_interval); });
      control.field("dry_run", config.dry_run);
    });
    root.with("policy", [&](const yaml::Value& value) {
      std::string policy;
      if (!value.read(policy)) return;
      if (policy.empty()) return value.complain("the path is empty");
      config.policy_path = (std::filesystem::path(path).parent_path() / policy).lexically_normal().string();
    });
    root.map("journal", [&](yaml::Map& journal) { read_journal(journal, config.journal); });
    root.map("reservations", [&](yaml::Map& reservations) {
      reservations.require("file");
      reservations.with(
          "file", [&](const yaml::Value& value) { read_absolute_path(value, config.reservations_file); });
    });
    root.map("needs", [&](yaml::Map& needs) {
      needs.require("directory");
      needs.with("directory",
                 [&](const yaml::Value& value) { read_absolute_path(value, config.needs_directory); });
    });
    root.map("backends", [&](yaml::Map& backends) {
      backends.list("qmp", [&](const yaml::Value& value) { read_qmp_sockets(value, config.qmp); });
      backends.list("libvirt", [&](const yaml::Value& value) { read_libvirt_host(value, config.libvirt); });
    });
    root.with("log_level", [&](const yaml::Value& value) { read_log_level(value, config.log_level); });
  });
  return document.finish();
}

}  // namespace balloon::daemon
