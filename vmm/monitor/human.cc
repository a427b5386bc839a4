// SPDX-License-Identifier: Apache-2.0
// The human monitor's commands that tools send through human-monitor-command, with QEMU's output.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "vmm/monitor/qmp.h"

namespace balloon::vmm {
namespace {

/// The client's text is not echoed whole: it may be long.
constexpr std::size_t kEchoed = 64;

std::vector<std::string_view> words_of(std::string_view line) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<std::string_view> words;
  for (std::size_t at = line.find_first_not_of(kSpace); at != std::string_view::npos;) {
    const std::size_t end = std::min(line.find_first_of(kSpace, at), line.size());
    words.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(kSpace, end);
  }
  return words;
}

std::string done_or_error(const Result<void>& done) {
  return done ? std::string{} : fmt::format("Error: {}\r\n", done.error().message);
}

std::string info_block(const MonitorGuest& guest) {
  std::string text;
  for (const MonitorDisk& disk : guest.disks()) {
    text += fmt::format("{}{} ({}): {} ({}{})\r\n", text.empty() ? "" : "\r\n", disk.name, disk.name,
                        disk.image.path, disk.image.format, disk.read_only ? ", read-only" : "");
    text += fmt::format("    Attached to:      /machine/peripheral/{}/virtio-backend\r\n", disk.name);
    if (disk.status != IoStatus::ok) {
      text += fmt::format("    I/O status:       {}\r\n",
                          disk.status == IoStatus::no_space ? "nospace" : "failed");
    }
    text += fmt::format("    Cache mode:       {}{}\r\n", disk.writeback ? "writeback" : "writethrough",
                        disk.direct ? ", direct" : "");
    if (disk.image.backing) text += fmt::format("    Backing file:     {}\r\n", disk.image.backing_name);
  }
  return text;
}

std::string no_balloon() { return fmt::format("Error: {}\r\n", kNoBalloon); }

std::string status(RunState state) {
  if (state == RunState::running) return "VM status: running\r\n";
  if (state == RunState::paused) return "VM status: paused\r\n";
  return state == RunState::saving ? "VM status: paused (save-vm)\r\n" : "VM status: paused (io-error)\r\n";
}

std::string info(const MonitorGuest& guest, std::string_view what) {
  // The same rounding as QEMU's: whole mebibytes, down.
  if (what == "balloon" && !guest.has_balloon()) return no_balloon();
  if (what == "balloon") return fmt::format("balloon: actual={}\r\n", guest.balloon().actual / kMiB);
  if (what == "status") return status(guest.run_state());
  if (what == "block") return info_block(guest);
  if (what == "name") return fmt::format("{}\r\n", guest.name());
  if (what == "kvm") return "kvm support: enabled\r\n";
  if (what == "version") return "7.2.0 (balloon-vmm " BALLOON_VERSION ")\r\n";
  return fmt::format("unknown command: 'info {}'\r\n", what);
}

/// "balloon 512": the guest's size in MiB.
std::string balloon(QmpState& state, std::string_view text) {
  std::uint64_t mebibytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mebibytes);
  if (error != std::errc{} || end != text.data() + text.size())
    return "Error: Parameter 'value' expects a number\r\n";
  if (!state.guest.has_balloon()) return no_balloon();
  if (mebibytes == 0) return "Error: Parameter 'target' expects a size\r\n";
  const std::uint64_t most = state.guest.memory() / kMiB;
  return done_or_error(state.guest.set_balloon(std::min(mebibytes, most) * kMiB));
}

/// "set_link net0 off"
std::string set_link(MonitorGuest& guest, std::string_view name, std::string_view state) {
  const auto net = net_index(guest, name);
  if (!net) return fmt::format("Error: Device '{}' not found\r\n", name.substr(0, kEchoed));
  if (state != "on" && state != "off") return "Error: Parameter 'up' expects 'on' or 'off'\r\n";
  return done_or_error(guest.set_link(*net, state == "on"));
}

}  // namespace

std::string human_command(QmpState& state, std::string_view line) {
  const auto words = words_of(line);
  if (words.empty()) return {};
  const std::string_view name = words[0];
  if (name == "info" && words.size() == 2) return info(state.guest, words[1]);
  if (name == "balloon") {
    return words.size() == 2 ? balloon(state, words[1])
                             : "balloon: one argument is needed: the guest's size in MiB\r\n";
  }
  if (words.size() == 1) {
    if (name == "stop") return done_or_error(state.guest.stop());
    if (name == "cont" || name == "c") return done_or_error(state.guest.cont());
    if (name == "system_powerdown") return done_or_error(state.guest.power_button());
    if (name == "system_reset") return done_or_error(state.guest.reset());
    if (name == "quit" || name == "q") return state.guest.quit(), std::string{};
  }
  if (name == "set_link" && words.size() == 3) return set_link(state.guest, words[1], words[2]);
  return fmt::format("unknown command: '{}'\r\n", line.substr(0, kEchoed));
}

}  // namespace balloon::vmm
