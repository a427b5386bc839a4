// SPDX-License-Identifier: Apache-2.0
// One virtio function on buses of its own, and accesses to its registers: what all drivers of the tests start
// from.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/event_loop.h"
#include "vmm/pci/pci_root.h"
#include "vmm/pci/virtio_pci.h"

namespace balloon::vmm::test {

/// The modern common configuration (virtio 1.2, 4.1.4.3) and the legacy header (4.1.4.10), by the
/// specification's offsets, and the states that a driver goes through.
struct VirtioRegisters {
  static constexpr unsigned kDeviceFeatureSelect = 0, kDeviceFeature = 4, kDriverFeatureSelect = 8,
                            kDriverFeature = 12, kConfigVector = 16, kNumQueues = 18, kStatus = 20,
                            kGeneration = 21, kQueueSelect = 22, kQueueSize = 24, kQueueVector = 26,
                            kQueueEnable = 28, kQueueNotifyOff = 30, kQueueDesc = 32, kQueueDriver = 40,
                            kQueueDevice = 48, kQueueReset = 58;
  static constexpr unsigned kOldDeviceFeatures = 0, kOldDriverFeatures = 4, kOldQueuePage = 8,
                            kOldQueueSize = 12, kOldQueueSelect = 14, kOldNotify = 16, kOldStatus = 18,
                            kOldIsrStatus = 19, kOldConfigVector = 20, kOldQueueVector = 22;
  static constexpr std::uint8_t kBegun = virtio_transport::kAcknowledge | virtio_transport::kDriver;
  static constexpr std::uint8_t kAccepted = kBegun | virtio_transport::kFeaturesOk;
};

struct VirtioFunction : VirtioRegisters {
  /// Makes the function of `device` in slot 1, its BARs enabled. Whoever owns memory and loop calls
  /// root.reset() before those go.
  void plug_in(std::unique_ptr<VirtioDevice> device, const GuestMemory& guest_memory, EventLoop& event_loop,
               TransportConfig transport_config = {}) {
    if (!ports.add("PCI", layout::kPciConfigAddressPort, PciRoot::kPorts, *root))
      throw std::runtime_error("the PCI root's ports");
    auto made =
        VirtioPci::create(std::move(device), guest_memory, event_loop, host, spaces, transport_config);
    if (!made) throw std::runtime_error(made.error().message);
    transport = made->get();
    if (!root->add(std::move(*made))) throw std::runtime_error("adding the device");
    config.enable_io_and_memory();
    const bool modern = transport_config.interface == VirtioInterface::modern;
    bar = config.read<std::uint32_t>(modern ? 0x10 : 0x14) & ~15U;
    base = config.read<std::uint32_t>(modern ? 0x14 : 0x10) & ~3U;
  }

  template <typename T>
  T common(unsigned offset) const {
    return bus_read<T>(mmio, bar + virtio_pci::kCommon + offset);
  }
  template <typename T>
  void set_common(unsigned offset, T value) {
    bus_write<T>(mmio, bar + virtio_pci::kCommon + offset, value);
  }
  template <typename T>
  T old(unsigned offset) const {
    return bus_read<T>(ports, base + offset);
  }
  template <typename T>
  void set_old(unsigned offset, T value) {
    bus_write<T>(ports, base + offset, value);
  }

  std::uint64_t offered() {
    std::uint64_t features = 0;
    for (std::uint32_t word = 0; word < 2; ++word) {
      set_common<std::uint32_t>(kDeviceFeatureSelect, word);
      features |= std::uint64_t{common<std::uint32_t>(kDeviceFeature)} << (32 * word);
    }
    return features;
  }
  void accept(std::uint64_t features) {
    for (std::uint32_t word = 0; word < 2; ++word) {
      set_common<std::uint32_t>(kDriverFeatureSelect, word);
      set_common<std::uint32_t>(kDriverFeature, static_cast<std::uint32_t>(features >> (32 * word)));
    }
  }
  /// Where MSI-X stands in the configuration space.
  unsigned msix() const {
    return config.capability([&](unsigned at) { return config.read<std::uint8_t>(at) == 0x11; }).value_or(0);
  }
  /// Turns MSI-X on, with its first `count` vectors open.
  void open_vectors(std::uint32_t count) {
    for (std::uint32_t vector = 0; vector < count; ++vector) {
      const GuestAddress entry = bar + virtio_pci::kMsixTable + vector * 16;
      bus_write<std::uint32_t>(mmio, entry, 0xfee00000);
      bus_write<std::uint32_t>(mmio, entry + 8, 0x40 + vector);
      bus_write<std::uint32_t>(mmio, entry + 12, 0);
    }
    config.write<std::uint16_t>(msix() + 2, 0x8000);
  }

  FakePciHost host;
  Bus ports;
  Bus mmio;
  PciSpaces spaces{mmio, ports};
  std::unique_ptr<PciRoot> root = std::make_unique<PciRoot>(spaces);
  VirtioPci* transport = nullptr;
  ConfigPorts config{ports, 1};
  std::uint32_t base = 0;  ///< of the I/O BAR
  std::uint32_t bar = 0;   ///< of the memory BAR
};

}  // namespace balloon::vmm::test
