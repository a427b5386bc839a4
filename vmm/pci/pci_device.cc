#include "vmm/pci/pci_device.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {

PciDevice::PciDevice(std::string name, const PciIdentity& identity, Bus& mmio)
    : config_(identity), name_(std::move(name)), mmio_(mmio) {
  for (unsigned bar = 0; bar < PciConfigSpace::kBars; ++bar) {
    windows_.at(bar).device = this;
    windows_.at(bar).bar = bar;
  }
}

PciDevice::~PciDevice() {
  for (const BarWindow& window : windows_) {
    if (window.mapped) mmio_.remove(*window.mapped);
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

void PciDevice::place_bar(unsigned bar, std::uint32_t address) {
  config_.set_bar_address(bar, address);
  update_mappings();
}

void PciDevice::update_mappings() {
  for (BarWindow& window : windows_) {
    const std::uint32_t size = config_.bar_size(window.bar);
    if (size == 0) continue;
    std::optional<GuestAddress> wanted;
    const GuestAddress address = config_.bar_address(window.bar);
    // A guest that sizes a BAR, or puts it outside the window that ACPI gives it, finds nothing there.
    const bool in_window = address >= layout::kPciWindowStart &&
                           address + size <= layout::kPciWindowStart + layout::kPciWindowSize;
    if (config_.memory_enabled() && in_window) wanted = address;
    if (wanted == window.mapped) continue;
    if (window.mapped) mmio_.remove(*window.mapped);
    window.mapped.reset();
    if (wanted) {
      if (const auto added = mmio_.add(name_, *wanted, size, window); !added) {
        log::debug("{}: BAR {} not mapped: {}", name_, window.bar, added.error().message);
      } else {
        window.mapped = wanted;
      }
    }
    bar_moved(window.bar, window.mapped);
  }
}

}  // namespace balloon::vmm
