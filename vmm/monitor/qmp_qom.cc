// SPDX-License-Identifier: Apache-2.0
// As much of QEMU's object tree as leads to the devices, and to the balloon's statistics. Tools either know
// the path that they gave the balloon ("/machine/peripheral/balloon0"), or look for its type with qom-list;
// libvirt and Proxmox do the latter.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <ranges>
#include <vector>

#include "vmm/monitor/qmp.h"

namespace balloon::vmm {
namespace {

using nlohmann::json;

constexpr std::string_view kBalloonType = "virtio-balloon-pci";
constexpr std::string_view kPeripheral = "/machine/peripheral";
constexpr std::string_view kAnonymous = "/machine/peripheral-anon";

/// In the order of StatTag; the names are of QEMU's hw/virtio/virtio-balloon.c.
constexpr std::array<std::string_view, kStatTags> kStatNames = {
    "stat-swap-in",      "stat-swap-out",     "stat-major-faults",     "stat-minor-faults",
    "stat-free-memory",  "stat-total-memory", "stat-available-memory", "stat-disk-caches",
    "stat-htlb-pgalloc", "stat-htlb-pgfail",  "stat-oom-kills",        "stat-alloc-stalls",
    "stat-async-scans",  "stat-direct-scans", "stat-async-reclaims",   "stat-direct-reclaims"};

struct Property {
  std::string name;
  std::string type;
};

struct Node {
  std::string path;
  std::string type;
  std::vector<Property> properties;
};

/// The tree, without its root: what lies above comes first.
std::vector<Node> tree(const MonitorGuest& guest) {
  const Property type{"type", "string"};
  std::vector<Node> nodes{{"/machine", "pc-machine", {type}}};
  const auto add = [&](std::string_view parent, std::string name, std::string_view node_type,
                       std::vector<Property> properties) {
    const auto above = std::ranges::find(nodes, parent, &Node::path);
    const bool container = node_type == "container";
    above->properties.push_back({name, container ? "child<container>" : fmt::format("child<{}>", node_type)});
    nodes.push_back({fmt::format("{}/{}", parent, name), std::string(node_type), std::move(properties)});
  };
  for (const char* name : {"peripheral", "peripheral-anon", "unattached"})
    add("/machine", name, "container", {type});
  for (const MonitorDisk& disk : guest.disks()) add(kPeripheral, disk.name, "virtio-blk-pci", {type});
  for (const std::string& net : guest.nets()) add(kPeripheral, net, "virtio-net-pci", {type});
  if (!guest.has_balloon()) return nodes;
  const std::vector<Property> balloon{type,
                                      {"guest-stats", "guest statistics"},
                                      {"guest-stats-polling-interval", "int"},
                                      {"deflate-on-oom", "bool"},
                                      {"free-page-reporting", "bool"}};
  // QEMU has a device with an id in one place, and one without in another; who gave none may look for either.
  const std::string id = guest.balloon_id();
  add(kPeripheral, id.empty() ? "balloon0" : id, kBalloonType, balloon);
  if (id.empty()) add(kAnonymous, "device[0]", kBalloonType, balloon);
  return nodes;
}

/// The node that a client means: stray slashes do not count, and without one in front a path may be the end
/// of one, if it is of one only (QEMU's qom/object.c, object_resolve_path).
std::expected<Node, QmpError> resolve(const MonitorGuest& guest, std::string_view path) {
  std::string parts;
  for (const auto part : std::views::split(path, '/')) {
    if (part.begin() != part.end()) parts += "/" + std::string(part.begin(), part.end());
  }
  if (path.starts_with('/') && parts.empty())
    return Node{"/", "container", {{"type", "string"}, {"machine", "child<pc-machine>"}}};
  std::vector<Node> nodes = tree(guest);
  const auto meant = [&](const Node& node) {
    return path.starts_with('/') ? node.path == parts : !parts.empty() && node.path.ends_with(parts);
  };
  const auto found = std::ranges::find_if(nodes, meant);
  if (found == nodes.end())
    return std::unexpected(QmpError{kDeviceNotFound, fmt::format("Device '{}' not found", path)});
  if (std::find_if(found + 1, nodes.end(), meant) != nodes.end())
    return qmp_fail(fmt::format("Path '{}' is ambiguous", path));
  return std::move(*found);
}

/// The node at the path in the arguments.
std::expected<Node, QmpError> node_argument(const QmpState& state, const json& arguments) {
  const auto path = string_argument(arguments, "path");
  if (!path) return std::unexpected(path.error());
  return resolve(state.guest, *path);
}

std::unexpected<QmpError> no_such_property(const Node& node, std::string_view name) {
  return qmp_fail(fmt::format("Property '{}.{}' not found", node.type, name));
}

json guest_stats(const MonitorGuest& guest) {
  const auto sample = guest.stats();
  json values = json::object();
  for (std::size_t tag = 0; tag < kStatTags; ++tag) {
    const auto value = sample ? sample->values[tag] : std::nullopt;
    values[std::string(kStatNames[tag])] = value.value_or(std::numeric_limits<std::uint64_t>::max());
  }
  const std::int64_t last =
      sample ? std::chrono::duration_cast<std::chrono::seconds>(sample->sampled_at.time_since_epoch()).count()
             : 0;
  return {{"stats", values}, {"last-update", last}};
}

QmpResult set_polling_interval(QmpState& state, const json& value) {
  const auto seconds = integer_value(value, "guest-stats-polling-interval");
  if (!seconds) return std::unexpected(seconds.error());
  if (*seconds < 0) return qmp_fail("timer value must be greater than zero");
  if (*seconds > std::numeric_limits<std::uint32_t>::max()) return qmp_fail("timer value is too big");
  state.stats_interval = std::chrono::seconds(*seconds);
  state.guest.set_stats_interval(state.stats_interval);
  return json::object();
}

}  // namespace

QmpResult qom_list(QmpState& state, const json& arguments) {
  const auto node = node_argument(state, arguments);
  if (!node) return std::unexpected(node.error());
  json list = json::array();
  for (const Property& property : node->properties)
    list.push_back({{"name", property.name}, {"type", property.type}});
  return list;
}

QmpResult qom_get(QmpState& state, const json& arguments) {
  const auto node = node_argument(state, arguments);
  if (!node) return std::unexpected(node.error());
  const auto property = string_argument(arguments, "property");
  if (!property) return std::unexpected(property.error());
  if (*property == "type") return json(node->type);
  if (node->type != kBalloonType) return no_such_property(*node, *property);
  if (*property == "guest-stats") return guest_stats(state.guest);
  if (*property == "guest-stats-polling-interval") return json(state.stats_interval.count());
  if (*property == "deflate-on-oom") return json(state.guest.balloon_offers_deflate_on_oom());
  if (*property == "free-page-reporting") return json(state.guest.balloon_offers_free_page_reporting());
  return no_such_property(*node, *property);
}

QmpResult qom_set(QmpState& state, const json& arguments) {
  const auto node = node_argument(state, arguments);
  if (!node) return std::unexpected(node.error());
  const auto property = string_argument(arguments, "property");
  if (!property) return std::unexpected(property.error());
  const auto value = arguments.find("value");
  if (value == arguments.end()) return qmp_fail("Parameter 'value' is missing");
  if (node->type == kBalloonType && *property == "guest-stats-polling-interval")
    return set_polling_interval(state, *value);
  if (std::ranges::find(node->properties, *property, &Property::name) == node->properties.end())
    return no_such_property(*node, *property);
  return qmp_fail(fmt::format(
      "Insufficient permission to perform this operation: '{}' cannot be set while the guest runs",
      *property));
}

}  // namespace balloon::vmm
