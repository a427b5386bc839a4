// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config_identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "vmm/machine/config.h"
#include "vmm/pci/pci_root.h"

namespace balloon::vmm {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_name_part(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/// The id where there is one, else the kind with the place in the configuration.
template <typename Config>
std::vector<std::string> names(const std::vector<Config>& configs, std::string_view kind) {
  std::vector<std::string> all;
  for (const Config& config : configs) {
    const std::string& id = config.identity.id;
    all.push_back(id.empty() ? fmt::format("{}{}", kind, all.size()) : id);
  }
  return all;
}

/// Takes the value of a key in YAML as the flag does; the complaint appears at its place.
void read_with(yaml::Map& map, std::string_view key, const Setter& set) {
  map.with(key, [&](const yaml::Value& value) {
    std::string text;
    if (!value.read(text)) return;
    if (const auto done = set(text); !done) value.complain(done.error().message);
  });
}

}  // namespace

Result<std::string> parse_id(std::string_view text) {
  if (text.empty() || !is_letter(text[0]) || !std::ranges::all_of(text, is_name_part)) {
    return fail(
        fmt::format("id={}: an id has letters, digits, '-', '.' and '_', and starts with a letter", text));
  }
  return std::string(text);
}

Result<std::optional<unsigned>> parse_slot(std::string_view text) {
  std::string_view digits = text.starts_with("0x") ? text.substr(2) : text;
  if (digits.ends_with(".0")) digits.remove_suffix(2);
  unsigned slot = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), slot, 16);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size() || slot == 0 ||
      slot >= PciRoot::kSlots) {
    return fail(fmt::format("addr={}: a PCI slot is a hexadecimal number from 1 to {:x}, its function is 0",
                            text, PciRoot::kSlots - 1));
  }
  return slot;
}

Setter to_id(DeviceIdentity& into) {
  return [&into](std::string_view value) -> Result<void> {
    auto id = parse_id(value);
    if (!id) return std::unexpected(std::move(id.error()));
    into.id = std::move(*id);
    return {};
  };
}

Setter to_slot(DeviceIdentity& into) {
  return [&into](std::string_view value) -> Result<void> {
    auto slot = parse_slot(value);
    if (!slot) return std::unexpected(std::move(slot.error()));
    into.slot = *slot;
    return {};
  };
}

void read_identity(yaml::Map& map, DeviceIdentity& into) {
  read_with(map, "id", to_id(into));
  read_with(map, "addr", to_slot(into));
}

std::string balloon_name(const VmmConfig& config) {
  const std::string& id = config.balloon.identity.id;
  return id.empty() ? "balloon0" : id;
}
std::vector<std::string> disk_names(const VmmConfig& config) { return names(config.disks, "disk"); }
std::vector<std::string> net_names(const VmmConfig& config) { return names(config.nets, "net"); }

Result<void> check_identities(const VmmConfig& config) {
  std::vector<std::string> all = disk_names(config);
  std::ranges::move(net_names(config), std::back_inserter(all));
  std::vector<std::optional<unsigned>> slots;
  for (const BlockConfig& disk : config.disks) slots.push_back(disk.identity.slot);
  for (const NetConfig& net : config.nets) slots.push_back(net.identity.slot);
  if (config.balloon.enabled) {
    all.push_back(balloon_name(config));
    slots.push_back(config.balloon.identity.slot);
  }
  std::set<std::string> seen;
  std::set<unsigned> taken;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!seen.insert(all[i]).second)
      return fail(fmt::format("two devices are called '{}': give one of them another id", all[i]));
    if (!slots[i]) continue;
    if (config.virtio.interface == VirtioInterface::mmio)
      return fail(fmt::format("{}: addr is a PCI slot, and virtio mmio has no PCI", all[i]));
    if (!taken.insert(*slots[i]).second) {
      return fail(
          fmt::format("{}: another device has the PCI slot {:x}: give it another addr", all[i], *slots[i]));
    }
  }
  return {};
}

}  // namespace balloon::vmm
