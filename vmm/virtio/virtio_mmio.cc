// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/virtio_mmio.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {
using namespace virtio_transport;  // NOLINT: the constants of every transport
using namespace virtio_mmio;       // NOLINT: the constants of this very file's header
namespace {

/// Control registers (4.2.2, table 4.1), all of 32 bits.
enum Register : std::uint64_t {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSelect = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSelect = 0x024,
  kQueueSelect = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = kNotify,
  kInterruptStatus = 0x060,
  kInterruptAcknowledge = 0x064,
  kStatus = 0x070,
  kQueueDescriptorsLow = 0x080,
  kQueueDescriptorsHigh = 0x084,
  kQueueDriverLow = 0x090,
  kQueueDriverHigh = 0x094,
  kQueueDeviceLow = 0x0a0,
  kQueueDeviceHigh = 0x0a4,
  kSharedMemoryLengthLow = 0x0b0,
  kSharedMemoryLengthHigh = 0x0b4,
  kSharedMemoryBaseLow = 0x0b8,
  kSharedMemoryBaseHigh = 0x0bc,
  kQueueReset = 0x0c0,
  kConfigGeneration = 0x0fc,
};
constexpr std::uint32_t kMagicValue = 0x74726976;   // "virt"
constexpr std::uint32_t kVersionValue = 2;          // no legacy device
constexpr std::uint32_t kVendorValue = 0x444e4c42;  // "BLND"; free to choose
constexpr std::uint32_t kNoRegion = 0xffffffff;     // no device here has shared memory (4.2.2)
constexpr std::size_t kRegisterSize = 4;

/// 4.2.2.2: drivers access control registers in 32 bits, aligned.
bool is_register(std::uint64_t offset, std::size_t size) {
  return size == kRegisterSize && offset % kRegisterSize == 0;
}

}  // namespace

Result<std::unique_ptr<VirtioMmio>> VirtioMmio::create(std::unique_ptr<VirtioDevice> device,
                                                       const GuestMemory& memory, EventLoop& loop,
                                                       Wiring& wiring, Bus& bus, const MmioPlace& place,
                                                       TransportConfig config) {
  auto transport = std::unique_ptr<VirtioMmio>(
      new VirtioMmio(std::move(device), memory, loop, wiring, bus, place, config));
  BALLOON_TRY(transport->watch_doorbells());
  BALLOON_TRY(transport->plug());
  return transport;
}

VirtioMmio::VirtioMmio(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop,
                       Wiring& wiring, Bus& bus, const MmioPlace& place, TransportConfig config)
    : VirtioTransport(std::move(device), memory, loop, wiring, config), bus_(bus), place_(place) {}

VirtioMmio::~VirtioMmio() {
  if (on_bus_) bus_.remove(place_.address);
  end();
}

Result<void> VirtioMmio::plug() {
  auto pin = wiring_.new_pin_line(place_.pin);
  if (!pin) return fail(fmt::format("making the interrupt of {}", device_->name()), pin.error());
  set_pin_line(std::move(*pin));
  BALLOON_TRY(bus_.add(device_->name(), place_.address, kWindow, *this));
  on_bus_ = true;
  const MutexLock lock(device_->mutex());
  for (std::size_t i = 0; i < queues_.size(); ++i) connect_kicks(i);
  return {};
}

std::vector<Doorbell> VirtioMmio::doorbells(std::size_t queue) const {
  if (!on_bus_) return {};
  return {{.address = place_.address + kNotify,
           .width = kRegisterSize,
           .value = static_cast<std::int32_t>(queue)}};
}

void VirtioMmio::bus_read(std::uint64_t offset, std::span<std::byte> into) {
  if (offset >= kConfig) return read_device_config(offset - kConfig, into);
  std::ranges::fill(into, std::byte{0});
  if (!is_register(offset, into.size())) return;
  std::uint32_t value = isr_;
  if (offset != kInterruptStatus) {  // an interrupt handler does not wait for what the device does
    const MutexLock lock(device_->mutex());
    value = read_register(offset);
  }
  std::memcpy(into.data(), &value, sizeof value);
}

void VirtioMmio::bus_write(std::uint64_t offset, std::span<const std::byte> from) {
  if (offset >= kConfig) return write_device_config(offset - kConfig, from);
  if (!is_register(offset, from.size())) return;
  std::uint32_t value = 0;
  std::memcpy(&value, from.data(), sizeof value);
  if (offset == kInterruptAcknowledge) {  // without the mutex, as above
    take_isr(static_cast<std::uint8_t>(value));
    return;
  }
  const MutexLock lock(device_->mutex());
  write_register(offset, value);
}

std::uint32_t VirtioMmio::read_register(std::uint64_t offset) {
  const Queue* queue = selected_queue();
  switch (offset) {
    case kMagic:
      return kMagicValue;
    case kVersion:
      return kVersionValue;
    case kDeviceId:
      return static_cast<std::uint32_t>(device_->id());
    case kVendorId:
      return kVendorValue;
    case kDeviceFeatures:
      return offered_word();
    case kQueueSizeMax:  // an unknown queue reads as size 0: not there
      return queue != nullptr ? queue->max_size : 0;
    case kQueueReady:
      return queue != nullptr && queue->enabled ? 1 : 0;
    case kStatus:
      return status_;
    case kSharedMemoryLengthLow:
    case kSharedMemoryLengthHigh:
    case kSharedMemoryBaseLow:
    case kSharedMemoryBaseHigh:
      return kNoRegion;
    case kConfigGeneration:
      return config_generation_;
    default:  // write-only, reserved, or kQueueReset: a reset is over when its write is
      return 0;
  }
}

void VirtioMmio::write_register(std::uint64_t offset, std::uint32_t value) {
  switch (offset) {
    case kDeviceFeaturesSelect:
      device_feature_select_ = value;
      return;
    case kDriverFeaturesSelect:
      driver_feature_select_ = value;
      return;
    case kDriverFeatures:
      return write_driver_word(value);
    case kQueueSelect:
      // Larger ones are no queue's; they must not become one by losing their upper half.
      queue_select_ = static_cast<std::uint16_t>(std::min(value, 0xffffU));
      return;
    case kQueueNotify:  // an ioeventfd could not be made
      if (value < queues_.size()) ring(static_cast<std::uint16_t>(value));
      return;
    case kStatus:
      // Bits past the eighth are reserved; only a zero in all of them is a reset (4.2.2).
      if (value <= 0xff) write_status(static_cast<std::uint8_t>(value));
      return;
    default:
      write_queue_register(offset, value);
  }
}

void VirtioMmio::write_queue_register(std::uint64_t offset, std::uint32_t value) {
  Queue* queue = selected_queue();
  if (queue == nullptr) return;
  switch (offset) {
    case kQueueSize:
      return set_queue_size(*queue, value);
    case kQueueReady:
      // 4.2.2.1: a zero ends the use of the queue, with or without RING_RESET.
      if (value == 1) enable_queue(*queue);
      if (value == 0 && queue->enabled) reset_queue(*queue);
      return;
    case kQueueReset:
      if (value == 1 && queue->enabled && negotiated(kFeatureRingReset)) reset_queue(*queue);
      return;
    case kQueueDescriptorsLow:
    case kQueueDescriptorsHigh:
      return set_queue_address(*queue, &Queue::descriptors, offset == kQueueDescriptorsHigh, value);
    case kQueueDriverLow:
    case kQueueDriverHigh:
      return set_queue_address(*queue, &Queue::available, offset == kQueueDriverHigh, value);
    case kQueueDeviceLow:
    case kQueueDeviceHigh:
      return set_queue_address(*queue, &Queue::used, offset == kQueueDeviceHigh, value);
    default:  // read-only or reserved
      return;
  }
}

void VirtioMmio::save(StateWriter& writer) const {
  writer.section(fmt::format("virtio-mmio {:#x} {}", place_.address, device_->name()));
  save_driver(writer);
}

Result<void> VirtioMmio::load(StateReader& reader) {
  BALLOON_TRY(reader.section(fmt::format("virtio-mmio {:#x} {}", place_.address, device_->name())));
  return load_driver(reader);
}

}  // namespace balloon::vmm
