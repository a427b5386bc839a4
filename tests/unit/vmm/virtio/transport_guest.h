// SPDX-License-Identifier: Apache-2.0
// A driver's way through a transport's registers, as Linux goes it. What the transports' registers are comes
// from pci_guest.h and mmio_guest.h.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <mutex>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "vmm/virtio/transport.h"

namespace balloon::vmm::test {

/// A register, from the start of the transport's registers.
struct Register {
  unsigned offset = 0;
  unsigned width = 4;
};

struct RegisterMap {
  Register device_feature_select, device_feature, driver_feature_select, driver_feature;
  Register status, generation;
  Register queue_select, queue_size_max, queue_size, queue_enable, queue_reset;
  unsigned descriptors, available, used;  ///< 64 bits each
  unsigned config;                        ///< the device's
};

class TransportGuest {
 public:
  static constexpr std::uint8_t kBegun = virtio_transport::kAcknowledge | virtio_transport::kDriver;
  static constexpr std::uint8_t kReadyToRun = kBegun | virtio_transport::kFeaturesOk;
  static constexpr std::uint8_t kRuns = kReadyToRun | virtio_transport::kDriverOk;

  virtual ~TransportGuest() = default;

  /// As KVM takes the driver's write; false: no eventfd is there.
  virtual bool kick(std::uint16_t queue) = 0;
  /// Whether an interrupt came since acknowledge().
  virtual bool interrupted() = 0;
  /// The bits of the interrupt status, which are taken back.
  virtual std::uint8_t acknowledge() = 0;
  virtual void destroy() = 0;

  std::uint32_t get(Register at) const {
    const GuestAddress address = base() + at.offset;
    if (at.width == 1) return bus_read<std::uint8_t>(mmio, address);
    if (at.width == 2) return bus_read<std::uint16_t>(mmio, address);
    return bus_read<std::uint32_t>(mmio, address);
  }
  void set(Register at, std::uint32_t value) {
    const GuestAddress address = base() + at.offset;
    if (at.width == 1) return bus_write(mmio, address, static_cast<std::uint8_t>(value));
    if (at.width == 2) return bus_write(mmio, address, static_cast<std::uint16_t>(value));
    bus_write(mmio, address, value);
  }
  void set_address(unsigned offset, GuestAddress address) {
    set({offset}, static_cast<std::uint32_t>(address));
    set({offset + 4}, static_cast<std::uint32_t>(address >> 32));
  }

  std::uint8_t status() const { return static_cast<std::uint8_t>(get(map.status)); }
  void set_status(std::uint32_t value) { set(map.status, value); }
  std::uint64_t offered() {
    set(map.device_feature_select, 0);
    const std::uint64_t low = get(map.device_feature);
    set(map.device_feature_select, 1);
    return low | std::uint64_t{get(map.device_feature)} << 32;
  }
  void accept(std::uint64_t features) {
    for (std::uint32_t word = 0; word < 2; ++word) {
      set(map.driver_feature_select, word);
      set(map.driver_feature, static_cast<std::uint32_t>(features >> (32 * word)));
    }
  }
  /// From a reset to FEATURES_OK, with `features` of those offered.
  void negotiate(std::uint64_t features = ~0ULL) {
    set_status(0);
    set_status(virtio_transport::kAcknowledge);
    set_status(kBegun);
    accept(offered() & features);
    set_status(kReadyToRun);
    open_messages();
  }
  void set_up_queue(std::uint16_t index, const QueueLayout& layout) {
    set(map.queue_select, index);
    set(map.queue_size, layout.size);
    choose_message(index);
    set_address(map.descriptors, layout.descriptors);
    set_address(map.available, layout.available);
    set_address(map.used, layout.used);
    set(map.queue_enable, 1);
  }
  int kicks(std::uint16_t queue) {
    const std::lock_guard lock(device->mutex());
    return device->kicks[queue];
  }

  const RegisterMap map;
  FakePciHost host;
  Bus mmio;
  FakeDevice* device = nullptr;

 protected:
  explicit TransportGuest(const RegisterMap& registers) : map(registers) {}
  std::unique_ptr<VirtioDevice> make_device() {
    auto made = std::make_unique<FakeDevice>();
    device = made.get();
    return made;
  }
  virtual GuestAddress base() const = 0;
  virtual void open_messages() {}
  virtual void choose_message(std::uint16_t /*queue*/) {}
};

}  // namespace balloon::vmm::test
