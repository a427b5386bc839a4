#include <fmt/format.h>

#include <algorithm>

#include "vmm/monitor/qmp.h"

namespace balloon::vmm {
namespace {

using nlohmann::json;

/// Tools decide by QEMU's version what they may use; the shapes here are those of this one.
constexpr int kQemuMajor = 7;
constexpr int kQemuMinor = 2;

QmpResult from(const Result<void>& done) {
  if (!done) return qmp_fail(done.error().message);
  return json::object();
}

std::string_view status_name(RunState state) { return state == RunState::running ? "running" : "paused"; }

QmpResult query_status(QmpState& state, const json&) {
  const RunState now = state.guest.run_state();
  return json{{"status", status_name(now)}, {"singlestep", false}, {"running", now == RunState::running}};
}

QmpResult query_commands(QmpState&, const json&) {
  json commands = json::array();
  for (const auto& [name, command] : qmp_commands()) commands.push_back({{"name", name}});
  commands.push_back({{"name", "qmp_capabilities"}});
  return commands;
}

QmpResult query_cpus(QmpState& state, const json&) {
  json cpus = json::array();
  for (const pid_t thread : state.guest.vcpu_threads()) {
    const std::size_t index = cpus.size();
    cpus.push_back({{"cpu-index", index},
                    {"qom-path", fmt::format("/machine/unattached/device[{}]", index)},
                    {"thread-id", thread},
                    {"target", "x86_64"},
                    {"props", {{"core-id", index}, {"thread-id", 0}, {"socket-id", 0}}}});
  }
  return cpus;
}

QmpResult set_balloon(QmpState& state, const json& arguments) {
  const auto value = arguments.find("value");
  if (value == arguments.end()) return qmp_fail("Parameter 'value' is missing");
  const auto wanted = integer_value(*value, "value");
  if (!wanted) return std::unexpected(wanted.error());
  if (*wanted <= 0) return qmp_fail("Parameter 'target' expects a size");
  // More than the guest has means all of it, as in QEMU.
  return from(state.guest.set_balloon(std::min(static_cast<Bytes>(*wanted), state.guest.memory())));
}

json block_device(const MonitorDisk& disk, std::size_t index) {
  const std::string name = fmt::format("disk{}", index);
  const json image{{"filename", disk.path}, {"format", disk.format}};
  return {{"device", name},
          {"qdev", fmt::format("/machine/peripheral/{}/virtio-backend", name)},
          {"locked", false},
          {"removable", false},
          {"type", "unknown"},
          {"inserted",
           {{"file", disk.path},
            {"node-name", name},
            {"ro", disk.read_only},
            {"drv", disk.format},
            {"encrypted", false},
            {"backing_file_depth", 0},
            {"detect_zeroes", "off"},
            {"write_threshold", 0},
            {"bps", 0},
            {"bps_rd", 0},
            {"bps_wr", 0},
            {"iops", 0},
            {"iops_rd", 0},
            {"iops_wr", 0},
            {"image", image}}}};
}

QmpResult query_block(QmpState& state, const json&) {
  json blocks = json::array();
  for (const MonitorDisk& disk : state.guest.disks()) blocks.push_back(block_device(disk, blocks.size()));
  return blocks;
}

QmpResult human(QmpState& state, const json& arguments) {
  const auto line = string_argument(arguments, "command-line");
  if (!line) return std::unexpected(line.error());
  return json(human_command(state, *line));
}

QmpResult save_snapshot(QmpState& state, const json& arguments) {
  const auto path = string_argument(arguments, "path");
  if (!path) return std::unexpected(path.error());
  return from(state.guest.save_snapshot(*path));
}

}  // namespace

json qmp_version() {
  return {{"qemu", {{"major", kQemuMajor}, {"minor", kQemuMinor}, {"micro", 0}}},
          {"package", "balloon-vmm " BALLOON_VERSION}};
}

const std::map<std::string_view, QmpCommand>& qmp_commands() {
  static const std::map<std::string_view, QmpCommand> commands{
      {"balloon", set_balloon},
      {"cont", [](QmpState& state, const json&) { return from(state.guest.cont()); }},
      {"human-monitor-command", human},
      {"qom-get", qom_get},
      {"qom-list", qom_list},
      {"qom-set", qom_set},
      {"query-balloon",
       [](QmpState& state, const json&) -> QmpResult {
         return json{{"actual", state.guest.balloon().actual}};
       }},
      {"query-block", query_block},
      {"query-commands", query_commands},
      {"query-cpus-fast", query_cpus},
      {"query-kvm",
       [](QmpState&, const json&) -> QmpResult { return json{{"enabled", true}, {"present", true}}; }},
      {"query-memory-size-summary",
       [](QmpState& state, const json&) -> QmpResult {
         return json{{"base-memory", state.guest.memory()}, {"plugged-memory", 0}};
       }},
      {"query-name",
       [](QmpState& state, const json&) -> QmpResult { return json{{"name", state.guest.name()}}; }},
      {"query-status", query_status},
      {"query-version", [](QmpState&, const json&) -> QmpResult { return qmp_version(); }},
      {"quit",
       [](QmpState& state, const json&) -> QmpResult {
         state.guest.quit();
         return json::object();
       }},
      {"snapshot-to-file", save_snapshot},
      {"stop", [](QmpState& state, const json&) { return from(state.guest.stop()); }},
      {"system_powerdown", [](QmpState& state, const json&) { return from(state.guest.power_button()); }},
      {"system_reset", [](QmpState& state, const json&) { return from(state.guest.reset()); }},
  };
  return commands;
}

}  // namespace balloon::vmm
