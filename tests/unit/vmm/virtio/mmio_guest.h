// SPDX-License-Identifier: Apache-2.0
// A fake device behind a virtio-mmio window, and its driver.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <type_traits>
#include <utility>

#include "tests/unit/vmm/virtio/transport_guest.h"
#include "vmm/virtio/virtio_mmio.h"

namespace balloon::vmm::test {

/// Registers (virtio 1.2, 4.2.2), by the specification's offsets.
namespace mmio_register {
inline constexpr unsigned kMagic = 0x00, kVersion = 0x04, kDeviceId = 0x08, kVendor = 0x0c,
                          kDeviceFeatures = 0x10, kDeviceFeaturesSelect = 0x14, kDriverFeatures = 0x20,
                          kDriverFeaturesSelect = 0x24, kQueueSelect = 0x30, kQueueSizeMax = 0x34,
                          kQueueSize = 0x38, kQueueReady = 0x44, kNotify = 0x50, kInterruptStatus = 0x60,
                          kAcknowledgeInterrupt = 0x64, kStatus = 0x70, kQueueDesc = 0x80,
                          kQueueDriver = 0x90, kQueueDevice = 0xa0, kSharedLength = 0xb0, kQueueReset = 0xc0,
                          kGeneration = 0xfc, kConfig = 0x100;
}  // namespace mmio_register

class MmioGuest final : public TransportGuest {
 public:
  static constexpr MmioPlace kPlace{.address = 0xfeb00000, .pin = 16};

  MmioGuest(const GuestMemory& memory, EventLoop& loop, TransportConfig config)
      : TransportGuest({.device_feature_select = {mmio_register::kDeviceFeaturesSelect},
                        .device_feature = {mmio_register::kDeviceFeatures},
                        .driver_feature_select = {mmio_register::kDriverFeaturesSelect},
                        .driver_feature = {mmio_register::kDriverFeatures},
                        .status = {mmio_register::kStatus},
                        .generation = {mmio_register::kGeneration},
                        .queue_select = {mmio_register::kQueueSelect},
                        .queue_size_max = {mmio_register::kQueueSizeMax},
                        .queue_size = {mmio_register::kQueueSize},
                        .queue_enable = {mmio_register::kQueueReady},
                        .queue_reset = {mmio_register::kQueueReset},
                        .descriptors = mmio_register::kQueueDesc,
                        .available = mmio_register::kQueueDriver,
                        .used = mmio_register::kQueueDevice,
                        .config = mmio_register::kConfig}) {
    auto made = VirtioMmio::create(make_device(), memory, loop, host, mmio, kPlace, config);
    EXPECT_TRUE(made);
    transport = std::move(*made);
  }

  template <typename T = std::uint32_t>
  T read(unsigned offset) const {
    return bus_read<T>(mmio, kPlace.address + offset);
  }
  template <typename T = std::uint32_t>
  void write(unsigned offset, std::type_identity_t<T> value) {
    bus_write<T>(mmio, kPlace.address + offset, value);
  }

  bool kick(std::uint16_t queue) override {
    return host.kick({.address = kPlace.address + mmio_register::kNotify, .width = 4, .value = queue});
  }
  bool interrupted() override { return host.pin(); }
  std::uint8_t acknowledge() override {
    const auto status = read(mmio_register::kInterruptStatus);
    write(mmio_register::kAcknowledgeInterrupt, status);
    return static_cast<std::uint8_t>(status);
  }
  void destroy() override { transport.reset(); }

  std::unique_ptr<VirtioMmio> transport;

 private:
  GuestAddress base() const override { return kPlace.address; }
};

}  // namespace balloon::vmm::test
