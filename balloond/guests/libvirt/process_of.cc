// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/process_of.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace balloon::daemon::libvirt {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

pid_t number_of(std::string_view text) {
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  return std::max(pid, 0);
}

/// QEMU is given its UUID as an argument of its own (hw/core: -uuid).
bool runs(const std::string& root, pid_t pid, const std::string& uuid) {
  const std::string line = read_file(fmt::format("{}/proc/{}/cmdline", root, pid));
  const std::string wanted = std::string("\0-uuid\0", 7) + uuid;
  return line.find(wanted) != std::string::npos;
}

pid_t by_pid_file(const std::string& uri, const std::string& name, const std::string& root) {
  // driver_system: /run/libvirt/qemu; a user's own: $XDG_RUNTIME_DIR/libvirt/qemu/run (qemu_conf.c).
  const char* const runtime = std::getenv("XDG_RUNTIME_DIR");
  const bool session = uri.find("/session") != std::string::npos;
  if (session && runtime == nullptr) return 0;
  const std::string directory =
      session ? fmt::format("{}/libvirt/qemu/run", runtime) : root + "/run/libvirt/qemu";
  return number_of(read_file(fmt::format("{}/{}.pid", directory, name)));
}

pid_t by_command_line(const std::string& uuid, const std::string& root) {
  DIR* const processes = ::opendir((root + "/proc").c_str());
  if (processes == nullptr) return 0;
  pid_t found = 0;
  while (const dirent* const entry = ::readdir(processes)) {
    const pid_t pid = number_of(entry->d_name);
    if (pid == 0 || !runs(root, pid, uuid)) continue;
    found = pid;
    break;
  }
  ::closedir(processes);
  return found;
}

}  // namespace

Peer process_of(const std::string& uri, const std::string& name, const std::string& uuid,
                const std::string& root) {
  pid_t pid = by_pid_file(uri, name, root);
  if (pid == 0 || !runs(root, pid, uuid)) pid = by_command_line(uuid, root);
  struct stat status{};
  if (pid == 0 || ::stat(fmt::format("{}/proc/{}", root, pid).c_str(), &status) != 0) return {};
  return {.pid = pid, .uid = status.st_uid};
}

}  // namespace balloon::daemon::libvirt
