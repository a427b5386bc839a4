// SPDX-License-Identifier: Apache-2.0
// The PCI root bus: configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2) and the placing of devices and
// their BARs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/mutex.h"
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

  /// Keeps a slot for a device that is added later, and for no other. Before anybody else has the bus.
  void reserve(unsigned slot) NO_THREAD_SAFETY_ANALYSIS { reserved_ |= std::uint64_t{1} << slot; }
  /// Puts the device into `slot`, or else the lowest that is free and not reserved, and its BARs into the PCI
  /// windows.
  Result<void> add(std::unique_ptr<PciDevice> device, std::optional<unsigned> slot = std::nullopt);

  Result<void> save(StateWriter& writer);
  Result<void> load(StateReader& reader);

  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;

 private:
  /// The device that the address register selects, or nullptr.
  PciDevice* selected() const REQUIRES(mutex_);
  Result<unsigned> find_slot(std::optional<unsigned> wanted) const REQUIRES(mutex_);
  /// A bit for each slot that has a device.
  std::uint64_t used_slots() const REQUIRES(mutex_);

  Mutex mutex_;
  std::uint32_t address_ GUARDED_BY(mutex_) = 0;
  std::array<std::unique_ptr<PciDevice>, kSlots> devices_ GUARDED_BY(mutex_);
  std::uint64_t reserved_ GUARDED_BY(mutex_) = 0;  ///< a bit for each slot
  std::uint64_t next_memory_ GUARDED_BY(mutex_) = layout::kPciWindowStart;
  std::uint64_t next_port_ GUARDED_BY(mutex_) = layout::kPciIoStart;
};

}  // namespace balloon::vmm
