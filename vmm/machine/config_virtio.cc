// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_virtio.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "vmm/machine/flag_values.h"

namespace balloon::vmm {
namespace {

constexpr std::array<std::pair<std::string_view, VirtioInterface>, 4> kInterfaces = {
    {{"modern", VirtioInterface::modern},
     {"transitional", VirtioInterface::transitional},
     {"legacy", VirtioInterface::legacy},
     {"mmio", VirtioInterface::mmio}}};

}  // namespace

Result<TransportConfig> parse_virtio(std::string_view text) {
  TransportConfig config;
  const std::size_t comma = std::min(text.find(','), text.size());
  const std::string_view name = text.substr(0, comma);
  const auto* known = std::ranges::find(kInterfaces, name, [](const auto& entry) { return entry.first; });
  if (known == kInterfaces.end()) {
    return fail(fmt::format("'{}' is not one of modern, transitional, legacy, mmio", name));
  }
  config.interface = known->second;
  if (comma < text.size()) {
    BALLOON_TRY(parse_pairs(text.substr(comma + 1), {{"packed", to_switch(config.packed_rings, "packed")}}));
  }
  if (config.packed_rings && config.interface == VirtioInterface::legacy) {
    return fail("legacy drivers have no packed rings: leave packed=on out, or use another interface");
  }
  return config;
}

std::string_view name_of(VirtioInterface interface) {
  const auto* known =
      std::ranges::find(kInterfaces, interface, [](const auto& entry) { return entry.second; });
  return known == kInterfaces.end() ? "unknown" : known->first;
}

}  // namespace balloon::vmm
