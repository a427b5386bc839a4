// The PCI root bus: configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2) and the placing of devices and
// their BARs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "base/error.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/bus.h"
#include "vmm/pci/pci_device.h"

namespace balloon::vmm {

/// Answers the eight ports from layout::kPciConfigAddressPort on. Slot 0 has the host bridge.
class PciRoot : public BusDevice {
 public:
  static constexpr unsigned kSlots = layout::kPciSlots;
  static constexpr std::uint64_t kPorts = 8;

  explicit PciRoot(const PciSpaces& spaces);

  /// Puts the device into the next free slot and its BARs into the PCI windows.
  Result<void> add(std::unique_ptr<PciDevice> device);

  Result<void> save(StateWriter& writer);
  Result<void> load(StateReader& reader);

  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;

 private:
  /// The device that the address register selects, or nullptr.
  PciDevice* selected() const;

  std::mutex mutex_;
  std::uint32_t address_ = 0;
  std::array<std::unique_ptr<PciDevice>, kSlots> devices_;
  unsigned used_slots_ = 0;
  std::uint64_t next_memory_ = layout::kPciWindowStart;
  std::uint64_t next_port_ = layout::kPciIoStart;
};

}  // namespace balloon::vmm
