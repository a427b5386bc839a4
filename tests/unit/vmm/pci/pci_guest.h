// SPDX-License-Identifier: Apache-2.0
// A fake device behind the modern interface of a virtio PCI function, with MSI-X, and its driver.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "tests/unit/vmm/virtio/transport_guest.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/pci/pci_root.h"
#include "vmm/pci/virtio_pci.h"

namespace balloon::vmm::test {

/// Fields of the common configuration (virtio 1.2, 4.1.4.3), by the specification's offsets.
namespace common_field {
inline constexpr unsigned kDeviceFeatureSelect = 0, kDeviceFeature = 4, kDriverFeatureSelect = 8,
                          kDriverFeature = 12, kConfigVector = 16, kNumQueues = 18, kStatus = 20,
                          kGeneration = 21, kQueueSelect = 22, kQueueSize = 24, kQueueVector = 26,
                          kQueueEnable = 28, kQueueDesc = 32, kQueueDriver = 40, kQueueDevice = 48,
                          kQueueReset = 58;
}  // namespace common_field

class PciGuest : public TransportGuest {
 public:
  PciGuest(const GuestMemory& memory, EventLoop& loop, TransportConfig transport_config)
      : TransportGuest({.device_feature_select = {common_field::kDeviceFeatureSelect},
                        .device_feature = {common_field::kDeviceFeature},
                        .driver_feature_select = {common_field::kDriverFeatureSelect},
                        .driver_feature = {common_field::kDriverFeature},
                        .status = {common_field::kStatus, 1},
                        .generation = {common_field::kGeneration, 1},
                        .queue_select = {common_field::kQueueSelect, 2},
                        .queue_size_max = {common_field::kQueueSize, 2},
                        .queue_size = {common_field::kQueueSize, 2},
                        .queue_enable = {common_field::kQueueEnable, 2},
                        .queue_reset = {common_field::kQueueReset, 2},
                        .descriptors = common_field::kQueueDesc,
                        .available = common_field::kQueueDriver,
                        .used = common_field::kQueueDevice,
                        .config = virtio_pci::kDevice - virtio_pci::kCommon}) {
    EXPECT_TRUE(ports.add("PCI", layout::kPciConfigAddressPort, PciRoot::kPorts, *root));
    auto transport = VirtioPci::create(make_device(), memory, loop, host, spaces, transport_config);
    EXPECT_TRUE(transport);
    EXPECT_TRUE(root->add(std::move(*transport)));
    config.enable_memory();
    bar = config.read<std::uint32_t>(0x10);
  }
  ~PciGuest() override { root.reset(); }

  template <typename T>
  T common(unsigned offset) const {
    return bus_read<T>(mmio, bar + virtio_pci::kCommon + offset);
  }
  template <typename T>
  void set_common(unsigned offset, T value) {
    bus_write<T>(mmio, bar + virtio_pci::kCommon + offset, value);
  }

  bool kick(std::uint16_t queue) override {
    return host.kick({bar + virtio_pci::kNotify + queue * virtio_pci::kNotifyMultiplier});
  }
  bool interrupted() override { return messages() > acknowledged_; }
  std::uint8_t acknowledge() override {
    acknowledged_ = messages();
    return bus_read<std::uint8_t>(mmio, bar + virtio_pci::kIsr);
  }
  void destroy() override { root.reset(); }

  /// Vector 0 for the configuration, i + 1 for queue i.
  void open_messages() override {
    if (!use_messages) return;
    const auto msix = config.capability([&](unsigned at) { return config.read<std::uint8_t>(at) == 0x11; });
    ASSERT_TRUE(msix);
    config.write<std::uint16_t>(*msix + 2, 0x8000);
    for (std::uint32_t vector = 0; vector < 3; ++vector) {
      const GuestAddress entry = bar + virtio_pci::kMsixTable + vector * 16;
      bus_write<std::uint32_t>(mmio, entry, 0xfee00000);
      bus_write<std::uint32_t>(mmio, entry + 8, 0x40 + vector);
      bus_write<std::uint32_t>(mmio, entry + 12, 0);
    }
    set_common<std::uint16_t>(common_field::kConfigVector, 0);
  }

  Bus ports;
  PciSpaces spaces{mmio, ports};
  std::unique_ptr<PciRoot> root = std::make_unique<PciRoot>(spaces);
  ConfigPorts config{ports, 1};
  std::uint32_t bar = 0;
  bool use_messages = true;

 private:
  GuestAddress base() const override { return bar + virtio_pci::kCommon; }
  void choose_message(std::uint16_t queue) override {
    set_common<std::uint16_t>(common_field::kQueueVector, static_cast<std::uint16_t>(queue + 1));
  }
  int messages() {
    int all = 0;
    for (std::size_t line = 0; line < 3; ++line) all += host.line(line).triggers;
    return all;
  }
  int acknowledged_ = 0;
};

}  // namespace balloon::vmm::test
