// SPDX-License-Identifier: Apache-2.0
// A PCI function: a configuration space, and BARs that follow it about the guest's address space.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"
#include "vmm/bus.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/config_space.h"

namespace balloon::vmm {

class StateReader;
class StateWriter;

/// The address spaces that devices' BARs are in.
struct PciSpaces {
  Bus& memory;
  Bus& ports;
};

class PciDevice {
 public:
  virtual ~PciDevice();
  PciDevice(const PciDevice&) = delete;
  PciDevice& operator=(const PciDevice&) = delete;

  const std::string& name() const { return name_; }
  const PciConfigSpace& config() const { return config_; }

  // Configuration accesses; the PCI root serialises them.
  void read_config(std::size_t offset, std::span<std::byte> into);
  void write_config(std::size_t offset, std::span<const std::byte> from);
  /// For snapshots. load() fails when the state is of another kind of device.
  virtual Result<void> save(StateWriter& writer) const;
  virtual Result<void> load(StateReader& reader);
  /// Firmware's part: gives a BAR its first address, while the device decodes none.
  void place_bar(unsigned bar, std::uint32_t address);
  /// Likewise: the device is in `slot`, whose INTx pins lead to layout::pci_pin().
  virtual Result<void> plug(unsigned /*slot*/) { return {}; }

 protected:
  PciDevice(std::string name, const PciIdentity& identity, const PciSpaces& spaces);

  /// offset + size never passes the BAR's end. From vCPU threads, several at a time.
  virtual void read_bar(unsigned bar, std::uint64_t offset, std::span<std::byte> into) = 0;
  virtual void write_bar(unsigned bar, std::uint64_t offset, std::span<const std::byte> from) = 0;
  /// The BAR now answers at `address`; nothing: nowhere.
  virtual void bar_moved(unsigned /*bar*/, std::optional<GuestAddress> /*address*/) {}
  /// Before the bytes are read, after they were written: for capabilities with a behaviour of their own.
  virtual void before_config_read(std::size_t /*offset*/, std::size_t /*size*/) {}
  virtual void after_config_write(std::size_t /*offset*/, std::size_t /*size*/) {}

  PciConfigSpace config_;

 private:
  class BarWindow : public BusDevice {
   public:
    void bus_read(std::uint64_t offset, std::span<std::byte> into) override {
      device->read_bar(bar, offset, into);
    }
    void bus_write(std::uint64_t offset, std::span<const std::byte> from) override {
      device->write_bar(bar, offset, from);
    }
    PciDevice* device = nullptr;
    unsigned bar = 0;
    std::optional<GuestAddress> mapped;
  };
  void update_mappings();

  std::string name_;
  PciSpaces spaces_;
  Bus& bus(unsigned bar) { return config_.is_io_bar(bar) ? spaces_.ports : spaces_.memory; }
  bool in_window(unsigned bar, GuestAddress address) const;

  std::array<BarWindow, PciConfigSpace::kBars> windows_;
};

}  // namespace balloon::vmm
