// SPDX-License-Identifier: Apache-2.0
// What a virtio function looks like on the PCI bus: its ids, BARs and capabilities.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

#include "vmm/pci/virtio_pci.h"

namespace balloon::vmm {
using namespace virtio_pci;  // NOLINT: the constants of the transport's own header
namespace {

constexpr std::uint16_t kVirtioVendor = 0x1af4;
constexpr std::uint16_t kModernDeviceBase = 0x1040;  // 4.1.2
/// Ports that an I/O BAR has at most (PCI Local Bus 3.0, 6.2.5.1); no device's legacy interface comes near.
constexpr std::uint32_t kIoBarMax = 256;
/// Ports of the smallest legacy interface: its header, and some configuration.
constexpr std::uint32_t kLegacyBarMin = 32;
constexpr std::uint8_t kVendorCapability = 0x09;

/// struct virtio_pci_cap (4.1.4) behind the id and the next pointer.
struct [[gnu::packed]] CapabilityBody {
  std::uint8_t length;
  std::uint8_t type;
  std::uint8_t bar;
  std::uint8_t padding[3];
  std::uint32_t offset;
  std::uint32_t size;
};
struct [[gnu::packed]] NotifyBody {
  CapabilityBody common;
  std::uint32_t multiplier;
};
struct [[gnu::packed]] AccessBody {
  CapabilityBody common;
  std::uint8_t data[4];
};
enum CapabilityType : std::uint8_t { kTypeCommon = 1, kTypeNotify, kTypeIsr, kTypeDevice, kTypeAccess };
CapabilityBody capability(unsigned bar, CapabilityType type, std::uint32_t offset, std::uint32_t size,
                          std::size_t body) {
  return {.length = static_cast<std::uint8_t>(body + 2),
          .type = type,
          .bar = static_cast<std::uint8_t>(bar),
          .padding = {},
          .offset = offset,
          .size = size};
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// Class codes: what QEMU gives its devices, so that guests' tools show the familiar picture (PCI Code and ID
/// Assignment).
std::uint32_t class_code(DeviceId id) {
  switch (id) {
    case DeviceId::net:
      return 0x020000;
    case DeviceId::block:
      return 0x010000;
    case DeviceId::console:
      return 0x078000;
    case DeviceId::entropy:
    case DeviceId::balloon:
      break;
  }
  return 0x00ff00;
}

/// Transitional devices have ids of their own (4.1.2, table of ids).
std::uint16_t transitional_id(DeviceId id) {
  switch (id) {
    case DeviceId::net:
      return 0x1000;
    case DeviceId::block:
      return 0x1001;
    case DeviceId::balloon:
      return 0x1002;
    case DeviceId::console:
      return 0x1003;
    case DeviceId::entropy:
      return 0x1005;
  }
  return 0x1000;
}

}  // namespace

PciIdentity VirtioPci::identity(DeviceId id, VirtioInterface interface) {
  const auto number = static_cast<std::uint16_t>(id);
  const auto modern_id = static_cast<std::uint16_t>(kModernDeviceBase + number);
  if (interface == VirtioInterface::modern) {
    return {.vendor = kVirtioVendor,
            .device = modern_id,
            .revision = 1,  // 4.1.2.1: 1 or higher for a non-transitional device
            .class_code = class_code(id),
            .subsystem_vendor = kVirtioVendor,
            .subsystem = modern_id};
  }
  return {.vendor = kVirtioVendor,
          .device = transitional_id(id),
          .revision = 0,  // 4.1.2.3: legacy drivers look for it, and for the virtio id in the subsystem
          .class_code = class_code(id),
          .subsystem_vendor = kVirtioVendor,
          .subsystem = number};
}

std::uint32_t VirtioPci::kick_ports() const {
  if (transport_.interface != VirtioInterface::modern) return 0;
  const auto size = std::bit_ceil(static_cast<std::uint32_t>(queues_.size()) * kNotifyMultiplier);
  return size > kIoBarMax ? 0 : size;  // with that many queues, memory has to do
}

void VirtioPci::add_bars() {
  config_.add_memory_bar(memory_bar_, kBarSize);
  if (kick_ports() > 0) config_.add_io_bar(kKickBar, kick_ports());
  if (memory_bar_ == kLegacyBar) return;
  config_.add_io_bar(kLegacyBar,
                     std::max(kLegacyBarMin, std::bit_ceil(kLegacyHeaderMsix + device_->config_size())));
}

void VirtioPci::add_virtio_capabilities() {
  const auto add = [&](CapabilityType type, std::uint32_t offset, std::uint32_t size) {
    config_.add_capability(kVendorCapability,
                           bytes_of(capability(memory_bar_, type, offset, size, sizeof(CapabilityBody))), {});
  };
  add(kTypeCommon, kCommon, kCommonSize);
  add(kTypeIsr, kIsr, 1);
  if (device_->config_size() > 0) add(kTypeDevice, kDevice, device_->config_size());
  const auto add_doorbells = [&](unsigned bar, std::uint32_t offset, std::uint32_t size,
                                 std::uint32_t multiplier) {
    const NotifyBody notify{capability(bar, kTypeNotify, offset, size, sizeof(NotifyBody)), multiplier};
    config_.add_capability(kVendorCapability, bytes_of(notify), {});
  };
  const auto own = static_cast<std::uint32_t>(queues_.size()) * kNotifyMultiplier;
  // 4.1.4: the driver takes the first that it can use.
  if (kick_ports() > 0) add_doorbells(kKickBar, 0, own, kNotifyMultiplier);
  if (memory_bar_ != kLegacyBar) add_doorbells(kLegacyBar, kLegacyNotify, kLegacyNotifySize, 0);
  add_doorbells(memory_bar_, kNotify, own, kNotifyMultiplier);

  // 4.1.4.9: the driver may write bar, offset and length, then access the BAR through the data bytes.
  const AccessBody access{capability(memory_bar_, kTypeAccess, 0, 0, sizeof(AccessBody)), {}};
  AccessBody writable{};
  writable.common.bar = 0xff;
  writable.common.offset = writable.common.size = 0xffffffff;
  std::ranges::fill(writable.data, std::uint8_t{0xff});
  access_capability_ = config_.add_capability(kVendorCapability, bytes_of(access), bytes_of(writable));
}

void VirtioPci::add_msix_capability() {
  struct [[gnu::packed]] {
    std::uint16_t control;
    std::uint32_t table;
    std::uint32_t pending;
  } const msix{static_cast<std::uint16_t>(msix_.vectors() - 1), kMsixTable | memory_bar_,
               kMsixPending | memory_bar_};
  const std::array writable_control{std::byte{0},
                                    std::byte{(Msix::kControlEnable | Msix::kControlFunctionMask) >> 8}};
  msix_capability_ = config_.add_capability(Msix::kCapabilityId, bytes_of(msix), writable_control);
}

}  // namespace balloon::vmm
