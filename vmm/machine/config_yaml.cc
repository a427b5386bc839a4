// SPDX-License-Identifier: Apache-2.0
// The YAML form of the configuration: the flags' names, with underscores.
#include "base/strict_yaml.h"
#include "vmm/machine/config.h"

namespace balloon::vmm {
namespace {

/// Reads a string and hands it to a parser; its complaint appears at the value's place.
template <typename T, typename Parse>
void read_parsed(yaml::Map& map, std::string_view key, T& into, Parse parse) {
  map.with(key, [&](const yaml::Value& value) {
    std::string text;
    if (!value.read(text)) return;
    auto parsed = parse(text);
    if (!parsed) return value.complain(parsed.error().message);
    into = std::move(*parsed);
  });
}

template <typename T>
void read_list(yaml::Map& map, std::string_view key, std::vector<T>& into, void (*read)(yaml::Map&, T&)) {
  map.list(key, [&](const yaml::Value& item) {
    item.map([&](yaml::Map& fields) { read(fields, into.emplace_back()); });
  });
}

}  // namespace

Result<void> read_config(std::string_view text, const std::string& name, VmmConfig& config) {
  const auto document = yaml::Document::parse(text, name);
  if (!document) return std::unexpected(document.error());
  document->root([&](yaml::Map& root) {
    root.field("name", config.name);
    root.bytes("memory", config.memory);
    root.map("memory_backing",
             [&](yaml::Map& backing) { read_memory_backing(backing, config.memory_backing); });
    root.field("cpus", config.cpus);
    root.field("kernel", config.boot.kernel);
    root.with("initrd", [&](const yaml::Value& value) { value.read(config.boot.initrd.emplace()); });
    root.field("cmdline", config.boot.command_line);
    read_list(root, "disks", config.disks, read_disk);
    read_list(root, "nets", config.nets, read_net);
    read_parsed(root, "serial", config.serial, parse_serial);
    read_parsed(root, "console", config.console, parse_serial);
    root.map("rng", [&](yaml::Map& rng) {
      rng.field("enabled", config.rng.enabled);
      rng.bytes("bytes_per_second", config.rng.bytes_per_second);
    });
    read_parsed(root, "virtio", config.virtio, parse_virtio);
    root.map("balloon", [&](yaml::Map& balloon) { read_balloon(balloon, config.balloon); });
    root.field("link", config.link);
    root.field("monitor", config.monitor);
    root.with("labels", [&](const yaml::Value& value) { value.read_strings(config.labels); });
    root.field("log_level", config.log_level);
    root.field("reboot", config.reboot);
    root.field("daemonize", config.daemonize);
    root.field("pid_file", config.pid_file);
  });
  return document->finish();
}

}  // namespace balloon::vmm
