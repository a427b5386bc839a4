// SPDX-License-Identifier: Apache-2.0
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

std::string_view status_name(RunState state) {
  switch (state) {
    case RunState::running:
      return "running";
    case RunState::paused:
      return "paused";
    case RunState::io_error:
      return "io-error";
    case RunState::saving:
      return "save-vm";
  }
  return "";
}

std::string_view status_name(IoStatus status) {
  switch (status) {
    case IoStatus::ok:
      return "ok";
    case IoStatus::failed:
      return "failed";
    case IoStatus::no_space:
      return "nospace";
  }
  return "";
}

std::unexpected<QmpError> no_balloon() { return std::unexpected(QmpError{kDeviceNotActive, kNoBalloon}); }

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

QmpResult query_balloon(QmpState& state, const json&) {
  if (!state.guest.has_balloon()) return no_balloon();
  return json{{"actual", state.guest.balloon().actual.count()}};
}

QmpResult set_balloon(QmpState& state, const json& arguments) {
  const auto value = arguments.find("value");
  if (value == arguments.end()) return qmp_fail("Parameter 'value' is missing");
  const auto wanted = integer_value(*value, "value");
  if (!wanted) return std::unexpected(wanted.error());
  if (!state.guest.has_balloon()) return no_balloon();
  if (*wanted <= 0) return qmp_fail("Parameter 'target' expects a size");
  // More than the guest has means all of it, as in QEMU.
  return from(state.guest.set_balloon(std::min(static_cast<Bytes>(*wanted), state.guest.memory())));
}

/// ImageInfo of QEMU's qapi/block-core.json, and what lies below it.
json image_json(const ImageInfo& image) {
  json value{{"filename", image.path},
             {"format", image.format},
             {"virtual-size", image.virtual_size.count()},
             {"actual-size", image.allocated.count()},
             {"dirty-flag", false}};
  if (image.cluster_size != Bytes{0}) {
    value["cluster-size"] = image.cluster_size.count();
    json data{{"compat", image.version >= 3 ? "1.1" : "0.10"},
              {"refcount-bits", image.refcount_bits},
              {"compression-type", "zlib"}};
    if (image.version >= 3) {  // QEMU's qcow2_get_specific_info()
      data["lazy-refcounts"] = false;
      data["corrupt"] = false;
      data["extended-l2"] = false;
    }
    value["format-specific"] = {{"type", image.format}, {"data", std::move(data)}};
  }
  if (image.backing) {
    value["backing-filename"] = image.backing_name;
    value["full-backing-filename"] = image.backing->path;
    value["backing-filename-format"] = image.backing->format;
    value["backing-image"] = image_json(*image.backing);
  }
  return value;
}

std::size_t backing_depth(const ImageInfo& image) {
  return image.backing ? backing_depth(*image.backing) + 1 : 0;
}

json block_device(const MonitorDisk& disk) {
  const std::string& name = disk.name;
  json inserted{{"file", disk.image.path},
                {"node-name", name},
                {"ro", disk.read_only},
                {"drv", disk.image.format},
                {"encrypted", false},
                {"backing_file_depth", backing_depth(disk.image)},
                {"detect_zeroes", "off"},
                {"write_threshold", 0},
                {"cache", {{"writeback", disk.writeback}, {"direct", disk.direct}, {"no-flush", false}}},
                {"bps", disk.bytes_per_second.count()},
                {"bps_rd", 0},
                {"bps_wr", 0},
                {"iops", disk.requests_per_second},
                {"iops_rd", 0},
                {"iops_wr", 0},
                {"image", image_json(disk.image)}};
  if (disk.image.backing) inserted["backing_file"] = disk.image.backing_name;
  return {{"device", name},
          {"qdev", fmt::format("/machine/peripheral/{}/virtio-backend", name)},
          {"locked", false},
          {"removable", false},
          {"type", "unknown"},
          {"io-status", status_name(disk.status)},
          {"inserted", std::move(inserted)}};
}

QmpResult query_block(QmpState& state, const json&) {
  json blocks = json::array();
  for (const MonitorDisk& disk : state.guest.disks()) blocks.push_back(block_device(disk));
  return blocks;
}

/// BlockDeviceStats of QEMU's qapi/block-core.json. What we do not measure is 0.
json block_stats(const BlockCounters& counters) {
  json stats{{"rd_bytes", counters.read.count()},
             {"wr_bytes", counters.written.count()},
             {"rd_operations", counters.reads},
             {"wr_operations", counters.writes},
             {"flush_operations", counters.flushes},
             {"unmap_operations", counters.discards},
             {"account_invalid", true},
             {"account_failed", true},
             {"timed_stats", json::array()}};
  for (const char* kind : {"rd", "wr", "unmap", "flush"}) {
    stats[fmt::format("{}_total_time_ns", kind)] = 0;
    stats[fmt::format("failed_{}_operations", kind)] = 0;
    stats[fmt::format("invalid_{}_operations", kind)] = 0;
    if (kind != std::string_view("flush")) stats[fmt::format("{}_merged", kind)] = 0;
  }
  stats["unmap_bytes"] = 0;
  stats["wr_highest_offset"] = 0;
  return stats;
}

QmpResult query_blockstats(QmpState& state, const json&) {
  json all = json::array();
  for (const MonitorDisk& disk : state.guest.disks()) {
    const std::string& name = disk.name;
    all.push_back({{"device", name},
                   {"node-name", name},
                   {"qdev", fmt::format("/machine/peripheral/{}/virtio-backend", name)},
                   {"stats", block_stats(disk.counters)}});
  }
  return all;
}

QmpResult set_link(QmpState& state, const json& arguments) {
  const auto name = string_argument(arguments, "name");
  if (!name) return std::unexpected(name.error());
  const auto up = arguments.find("up");
  if (up == arguments.end()) return qmp_fail("Parameter 'up' is missing");
  if (!up->is_boolean()) return qmp_fail("Invalid parameter type for 'up', expected: boolean");
  const auto net = net_index(state.guest, *name);
  if (!net) return std::unexpected(QmpError{kDeviceNotFound, fmt::format("Device '{}' not found", *name)});
  return from(state.guest.set_link(*net, up->get<bool>()));
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

std::optional<std::size_t> net_index(const MonitorGuest& guest, std::string_view name) {
  const std::vector<std::string> nets = guest.nets();
  const auto found = std::ranges::find(nets, name);
  if (found == nets.end()) return std::nullopt;
  return static_cast<std::size_t>(found - nets.begin());
}

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
      {"query-balloon", query_balloon},
      {"query-block", query_block},
      {"query-blockstats", query_blockstats},
      {"query-commands", query_commands},
      {"query-cpus-fast", query_cpus},
      {"query-kvm",
       [](QmpState&, const json&) -> QmpResult { return json{{"enabled", true}, {"present", true}}; }},
      {"query-memory-devices", [](QmpState&, const json&) -> QmpResult { return json::array(); }},
      {"query-memory-size-summary",
       [](QmpState& state, const json&) -> QmpResult {
         return json{{"base-memory", state.guest.memory().count()}, {"plugged-memory", 0}};
       }},
      {"query-name",
       [](QmpState& state, const json&) -> QmpResult { return json{{"name", state.guest.name()}}; }},
      {"query-status", query_status},
      {"query-uuid",  // as QEMU's without -uuid
       [](QmpState&, const json&) -> QmpResult {
         return json{{"UUID", "00000000-0000-0000-0000-000000000000"}};
       }},
      {"query-version", [](QmpState&, const json&) -> QmpResult { return qmp_version(); }},
      {"quit",
       [](QmpState& state, const json&) -> QmpResult {
         state.guest.quit();
         return json::object();
       }},
      {"set_link", set_link},
      {"snapshot-to-file", save_snapshot},
      {"stop", [](QmpState& state, const json&) { return from(state.guest.stop()); }},
      {"system_powerdown", [](QmpState& state, const json&) { return from(state.guest.power_button()); }},
      {"system_reset", [](QmpState& state, const json&) { return from(state.guest.reset()); }},
  };
  return commands;
}

}  // namespace balloon::vmm
