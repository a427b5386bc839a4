// As much of QEMU's object tree as leads to the balloon and its statistics. Tools either know the path that
// they gave the device ("/machine/peripheral/balloon0"), or look for its type with qom-list; libvirt and
// Proxmox do the latter.
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
/// The balloon under the two paths at which QEMU has it: with an id, and without.
constexpr std::array<std::string_view, 2> kBalloonPaths = {"/machine/peripheral/balloon0",
                                                           "/machine/peripheral-anon/device[0]"};

/// In the order of StatTag; the names are of QEMU's hw/virtio/virtio-balloon.c.
constexpr std::array<std::string_view, kStatTags> kStatNames = {
    "stat-swap-in",      "stat-swap-out",     "stat-major-faults",     "stat-minor-faults",
    "stat-free-memory",  "stat-total-memory", "stat-available-memory", "stat-disk-caches",
    "stat-htlb-pgalloc", "stat-htlb-pgfail",  "stat-oom-kills",        "stat-alloc-stalls",
    "stat-async-scans",  "stat-direct-scans", "stat-async-reclaims",   "stat-direct-reclaims"};

struct Property {
  std::string_view name;
  std::string_view type;
};
constexpr std::array<Property, 5> kBalloonProperties = {{{"type", "string"},
                                                         {"guest-stats", "guest statistics"},
                                                         {"guest-stats-polling-interval", "int"},
                                                         {"deflate-on-oom", "bool"},
                                                         {"free-page-reporting", "bool"}}};

bool is_balloon(std::string_view path) {
  return std::ranges::find(kBalloonPaths, path) != kBalloonPaths.end();
}

/// All nodes of the tree but its root.
constexpr std::array<std::string_view, 6> kNodes = {
    "/machine",       "/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached",
    kBalloonPaths[0], kBalloonPaths[1]};

/// The path of the node that a client means: stray slashes do not count, and without one in front it may be
/// the end of a path, if it is of one only (QEMU's qom/object.c, object_resolve_path).
std::expected<std::string, QmpError> resolve(std::string_view path) {
  std::string parts;
  for (const auto part : std::views::split(path, '/')) {
    if (part.begin() != part.end()) parts += "/" + std::string(part.begin(), part.end());
  }
  if (path.starts_with('/')) return parts.empty() ? "/" : parts;
  const auto meant = [&](std::string_view node) { return !parts.empty() && node.ends_with(parts); };
  const auto found = std::ranges::find_if(kNodes, meant);
  if (found == kNodes.end())
    return std::unexpected(QmpError{kDeviceNotFound, fmt::format("Device '{}' not found", path)});
  if (std::find_if(found + 1, kNodes.end(), meant) != kNodes.end())
    return qmp_fail(fmt::format("Path '{}' is ambiguous", path));
  return std::string(*found);
}

/// The path in the arguments, resolved.
std::expected<std::string, QmpError> path_argument(const json& arguments) {
  const auto path = string_argument(arguments, "path");
  return path ? resolve(*path) : path;
}

/// The children of an inner node; nothing for what is none.
std::optional<std::vector<Property>> children(std::string_view path) {
  if (path == "/") return {{{"type", "string"}, {"machine", "child<pc-machine>"}}};
  if (path == "/machine") {
    return {{{"type", "string"},
             {"peripheral", "child<container>"},
             {"peripheral-anon", "child<container>"},
             {"unattached", "child<container>"}}};
  }
  if (path == "/machine/peripheral") return {{{"type", "string"}, {"balloon0", "child<virtio-balloon-pci>"}}};
  if (path == "/machine/peripheral-anon")
    return {{{"type", "string"}, {"device[0]", "child<virtio-balloon-pci>"}}};
  if (path == "/machine/unattached") return {{{"type", "string"}}};
  if (is_balloon(path)) return std::vector<Property>(kBalloonProperties.begin(), kBalloonProperties.end());
  return std::nullopt;
}

std::unexpected<QmpError> no_such_path(std::string_view path) {
  return std::unexpected(QmpError{kDeviceNotFound, fmt::format("Device '{}' not found", path)});
}

std::unexpected<QmpError> no_such_property(std::string_view name) {
  return qmp_fail(fmt::format("Property '{}.{}' not found", kBalloonType, name));
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

QmpResult qom_list(QmpState&, const json& arguments) {
  const auto path = path_argument(arguments);
  if (!path) return std::unexpected(path.error());
  const auto found = children(*path);
  if (!found) return no_such_path(*path);
  json list = json::array();
  for (const Property& property : *found) list.push_back({{"name", property.name}, {"type", property.type}});
  return list;
}

QmpResult qom_get(QmpState& state, const json& arguments) {
  const auto path = path_argument(arguments);
  if (!path) return std::unexpected(path.error());
  const auto property = string_argument(arguments, "property");
  if (!property) return std::unexpected(property.error());
  if (!children(*path)) return no_such_path(*path);
  if (!is_balloon(*path)) {
    if (*property == "type") return json(*path == "/machine" ? "pc-machine" : "container");
    return qmp_fail(fmt::format("Property 'container.{}' not found", *property));
  }
  if (*property == "type") return json(kBalloonType);
  if (*property == "guest-stats") return guest_stats(state.guest);
  if (*property == "guest-stats-polling-interval") return json(state.stats_interval.count());
  if (*property == "deflate-on-oom") return json(state.guest.balloon_offers_deflate_on_oom());
  if (*property == "free-page-reporting") return json(state.guest.balloon_offers_free_page_reporting());
  return no_such_property(*property);
}

QmpResult qom_set(QmpState& state, const json& arguments) {
  const auto path = path_argument(arguments);
  if (!path) return std::unexpected(path.error());
  const auto property = string_argument(arguments, "property");
  if (!property) return std::unexpected(property.error());
  const auto value = arguments.find("value");
  if (value == arguments.end()) return qmp_fail("Parameter 'value' is missing");
  if (!children(*path)) return no_such_path(*path);
  if (!is_balloon(*path)) return qmp_fail(fmt::format("Property 'container.{}' not found", *property));
  if (*property == "guest-stats-polling-interval") return set_polling_interval(state, *value);
  for (const Property& known : kBalloonProperties) {
    if (known.name == *property) {
      return qmp_fail(
          fmt::format("Insufficient permission to perform this operation: '{}' cannot be set while the "
                      "guest runs",
                      *property));
    }
  }
  return no_such_property(*property);
}

}  // namespace balloon::vmm
