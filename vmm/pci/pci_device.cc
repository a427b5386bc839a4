// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_device.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {

PciDevice::PciDevice(std::string name, const PciIdentity& identity, const PciSpaces& spaces)
    : config_(identity), name_(std::move(name)), spaces_(spaces) {
  for (unsigned bar = 0; bar < PciConfigSpace::kBars; ++bar) {
    windows_.at(bar).device = this;
    windows_.at(bar).bar = bar;
  }
}

PciDevice::~PciDevice() {
  for (const BarWindow& window : windows_) {
    if (window.mapped) bus(window.bar).remove(*window.mapped);
  }
}

void PciDevice::read_config(std::size_t offset, std::span<std::byte> into) {
  before_config_read(offset, into.size());
  config_.read(offset, into);
}

void PciDevice::write_config(std::size_t offset, std::span<const std::byte> from) {
  config_.write(offset, from);
  update_mappings();
  after_config_write(offset, from.size());
}

Result<void> PciDevice::save(StateWriter& writer) const {
  writer.section(name_);
  writer.put(config_.get<std::array<std::byte, PciConfigSpace::kSize>>(0));
  return {};
}

Result<void> PciDevice::load(StateReader& reader) {
  BALLOON_TRY(reader.section(name_));
  const auto bytes = reader.get<std::array<std::byte, PciConfigSpace::kSize>>();
  BALLOON_TRY(reader.check());
  std::uint32_t identity = 0;
  std::memcpy(&identity, bytes.data(), sizeof identity);
  if (identity != config_.get<std::uint32_t>(0)) {
    return fail(fmt::format("{}: the snapshot has a device {:#010x} there, this machine {:#010x}", name_,
                            identity, config_.get<std::uint32_t>(0)));
  }
  // As if the guest wrote it: what it may not write stays as this machine has it.
  config_.write(0, bytes);
  update_mappings();
  return {};
}

void PciDevice::place_bar(unsigned bar, std::uint32_t address) { config_.set_bar_address(bar, address); }

/// A guest that sizes a BAR, or puts it outside the window that ACPI gives it, finds nothing there.
bool PciDevice::in_window(unsigned bar, GuestAddress address) const {
  const GuestAddress end = address + config_.bar_size(bar);
  if (config_.is_io_bar(bar)) {
    return address >= layout::kPciIoStart && end <= GuestAddress{layout::kPciIoEnd} + 1;
  }
  return address >= layout::kPciWindowStart && end <= layout::kPciWindowStart + layout::kPciWindowSize;
}

void PciDevice::update_mappings() {
  for (BarWindow& window : windows_) {
    const std::uint32_t size = config_.bar_size(window.bar);
    if (size == 0) continue;
    std::optional<GuestAddress> wanted;
    const GuestAddress address = config_.bar_address(window.bar);
    if (config_.bar_enabled(window.bar) && in_window(window.bar, address)) wanted = address;
    if (wanted == window.mapped) continue;
    if (window.mapped) bus(window.bar).remove(*window.mapped);
    window.mapped.reset();
    if (wanted) {
      if (const auto added = bus(window.bar).add(name_, *wanted, size, window); !added) {
        log::debug("{}: BAR {} not mapped: {}", name_, window.bar, added.error().message);
      } else {
        window.mapped = wanted;
      }
    }
    bar_moved(window.bar, window.mapped);
  }
}

}  // namespace balloon::vmm
