// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/description.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <pugixml.hpp>

#include "balloond/guests/sanitize.h"

namespace balloon::daemon::libvirt {
namespace {

using pugi::xml_node;

/// libvirt writes KiB, and takes other units (formatdomain.html, "Memory Allocation").
Bytes size_of(const xml_node& node) {
  constexpr std::array<std::pair<std::string_view, Bytes>, 8> kUnits{{{"KiB", kKiB},
                                                                      {"k", kKiB},
                                                                      {"MiB", kMiB},
                                                                      {"M", kMiB},
                                                                      {"GiB", kGiB},
                                                                      {"G", kGiB},
                                                                      {"b", Bytes{1}},
                                                                      {"bytes", Bytes{1}}}};
  const std::string_view unit = node.attribute("unit").as_string("KiB");
  for (const auto& [name, bytes] : kUnits) {
    if (name != unit) continue;
    const std::uint64_t number = node.text().as_ullong();
    // An absurd size stays absurd, and is refused where those of all backends are.
    return number > Bytes::max() / bytes ? Bytes::max() : number * bytes;
  }
  return Bytes{0};
}

/// A device that reaches all of the guest's memory by DMA: through VFIO (PCI and mediated devices, network
/// interfaces that are virtual functions, NVMe disks) or vDPA (formatdomain.html, "Devices").
std::string_view host_device_of(const xml_node& domain) {
  using Kind = std::pair<std::string_view, std::string_view>;
  constexpr std::array<Kind, 8> kKinds{{{"hostdev", "pci"},
                                        {"hostdev", "mdev"},
                                        {"hostdev", "ccw"},
                                        {"hostdev", "ap"},
                                        {"interface", "hostdev"},
                                        {"interface", "vdpa"},
                                        {"disk", "nvme"},
                                        {"disk", "vhostvdpa"}}};
  for (const xml_node device : domain.child("devices").children()) {
    const Kind kind{device.name(), device.attribute("type").as_string()};
    if (std::ranges::find(kKinds, kind) != kKinds.end()) return kind.second;
  }
  return {};
}

std::string interlock_of(const xml_node& domain) {
  const xml_node backing = domain.child("memoryBacking");
  if (const xml_node security = domain.child("launchSecurity")) {
    return fmt::format("its memory is encrypted and stays where it is ({})",
                       security.attribute("type").as_string("launchSecurity"));
  }
  if (const std::string_view device = host_device_of(domain); !device.empty())
    return fmt::format("its memory is pinned for a device of the host ({})", device);
  if (backing.child("locked")) return "its memory is locked";
  if (backing.child("hugepages")) return "its memory is in huge pages of the host";
  return {};
}

/// The name of an element without its prefix.
std::string_view local_name(const xml_node& node) {
  const std::string_view name = node.name();
  const auto colon = name.find(':');
  return colon == std::string_view::npos ? name : name.substr(colon + 1);
}

bool has_our_uri(const xml_node& node) {
  for (const pugi::xml_attribute attribute : node.attributes()) {
    if (std::string_view(attribute.name()).starts_with("xmlns") && attribute.value() == kMetadataUri)
      return true;
  }
  return false;
}

/// What virt-install and virt-manager note of the guest's system: <libosinfo:os
/// id="http://microsoft.com/win/11"/> (osinfo-db).
bool is_windows(const xml_node& metadata) {
  if (local_name(metadata) != "libosinfo") return false;
  for (const xml_node system : metadata.children()) {
    if (std::string_view(system.attribute("id").as_string()).starts_with("http://microsoft.com/win/"))
      return true;
  }
  return false;
}

}  // namespace

Result<Description> read_description(const std::string& xml) {
  pugi::xml_document document;
  if (const auto parsed = document.load_string(xml.c_str()); !parsed)
    return fail(fmt::format("its description is no XML: {}", parsed.description()));
  const xml_node domain = document.child("domain");
  if (!domain) return fail("its description is no domain");
  Description read;
  read.name = domain.child("name").text().as_string();
  read.guest = guest_name_of(read.name);
  read.merging = !domain.child("memoryBacking").child("nosharepages");
  read.memory = size_of(domain.child("memory"));
  read.current = size_of(domain.child("currentMemory"));
  read.vcpus = domain.child("vcpu").text().as_uint();
  const xml_node balloon = domain.child("devices").child("memballoon");
  const auto is_on = [&](const char* name) {
    return std::string_view(balloon.attribute(name).as_string()) == "on";
  };
  const std::string_view model = balloon.attribute("model").as_string("none");
  read.has_balloon = model != "none";
  read.deflate_on_oom = is_on("autodeflate");
  read.free_page_reporting = is_on("freePageReporting");
  read.period = std::chrono::seconds(balloon.child("stats").attribute("period").as_uint());
  read.interlock = interlock_of(domain);
  for (const xml_node metadata : domain.child("metadata").children()) {
    if (is_windows(metadata)) read.labels["os"] = "windows";
    if (!has_our_uri(metadata)) continue;
    for (const xml_node label : metadata.children()) {
      if (local_name(label) == "label")
        read.labels[label.attribute("name").as_string()] = label.attribute("value").as_string();
    }
  }
  return read;
}

}  // namespace balloon::daemon::libvirt
