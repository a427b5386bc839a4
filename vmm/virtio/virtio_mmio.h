// SPDX-License-Identifier: Apache-2.0
// The virtio MMIO transport (virtio 1.2, 4.2): a window of registers and one level-triggered pin a device, no
// bus. Only the interface of "version 2", which Linux has from 4.0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "vmm/bus.h"
#include "vmm/virtio/transport.h"

namespace balloon::vmm {

class StateReader;
class StateWriter;

namespace virtio_mmio {
inline constexpr std::uint64_t kWindow = 0x1000;
inline constexpr std::uint64_t kNotify = 0x050;
inline constexpr std::uint64_t kConfig = 0x100;  ///< the device's configuration, up to the window's end
}  // namespace virtio_mmio

/// Where a device is: what ACPI tells the guest.
struct MmioPlace {
  GuestAddress address = 0;  ///< of virtio_mmio::kWindow bytes
  std::uint32_t pin = 0;     ///< of the I/O APIC; devices may share it
};

class VirtioMmio final : public VirtioTransport, private BusDevice {
 public:
  /// Answers at `place` on `bus` until it is destroyed.
  static Result<std::unique_ptr<VirtioMmio>> create(std::unique_ptr<VirtioDevice> device,
                                                    const GuestMemory& memory, EventLoop& loop,
                                                    Wiring& wiring, Bus& bus, const MmioPlace& place,
                                                    TransportConfig config);
  ~VirtioMmio() override;

  /// Of a device that is settled; what serves queues in its place (vhost) is paused.
  void save(StateWriter& writer) const;
  Result<void> load(StateReader& reader);

 private:
  VirtioMmio(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop, Wiring& wiring,
             Bus& bus, const MmioPlace& place, TransportConfig config);
  Result<void> plug();

  // BusDevice
  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;
  // VirtioTransport
  std::vector<Doorbell> doorbells(std::size_t queue) const override REQUIRES(device_->mutex());

  // Registers.
  std::uint32_t read_register(std::uint64_t offset) REQUIRES(device_->mutex());
  void write_register(std::uint64_t offset, std::uint32_t value) REQUIRES(device_->mutex());
  void write_queue_register(std::uint64_t offset, std::uint32_t value) REQUIRES(device_->mutex());

  Bus& bus_;
  const MmioPlace place_;
  bool on_bus_ = false;
};

}  // namespace balloon::vmm
