#include "vmm/pci/virtio_pci.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {
using namespace virtio_pci;  // NOLINT: the constants of this very file's header
namespace {

constexpr std::uint16_t kVirtioVendor = 0x1af4;
constexpr std::uint16_t kModernDeviceBase = 0x1040;  // 4.1.2
constexpr std::uint8_t kVendorCapability = 0x09;

constexpr std::uint8_t kIsrQueue = 1;
constexpr std::uint8_t kIsrConfig = 2;

/// A guest that breaks the rules over and over is told each time; the log is not.
constexpr unsigned kComplaintsLogged = 8;

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
/// Of the access capability's data window in the configuration space, from the capability's start.
constexpr std::size_t kAccessBar = 4;
constexpr std::size_t kAccessOffset = 8;
constexpr std::size_t kAccessSize = 12;
constexpr std::size_t kAccessData = 16;

CapabilityBody capability(CapabilityType type, std::uint32_t offset, std::uint32_t size, std::size_t body) {
  return {.length = static_cast<std::uint8_t>(body + 2),
          .type = type,
          .bar = kBar,
          .padding = {},
          .offset = offset,
          .size = size};
}

GuestAddress doorbell_at(GuestAddress bar, std::size_t queue) {
  return bar + kNotify + queue * kNotifyMultiplier;
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
      return 0x00ff00;
    case DeviceId::balloon:
      return 0x00ff00;
  }
  return 0x00ff00;
}

PciIdentity identity(DeviceId id) {
  const auto number = static_cast<std::uint16_t>(id);
  return {.vendor = kVirtioVendor,
          .device = static_cast<std::uint16_t>(kModernDeviceBase + number),
          .revision = 1,  // 4.1.2.1: 1 or higher for a non-transitional device
          .class_code = class_code(id),
          .subsystem_vendor = kVirtioVendor,
          .subsystem = static_cast<std::uint16_t>(kModernDeviceBase + number)};
}

}  // namespace

Result<std::unique_ptr<VirtioPci>> VirtioPci::create(std::unique_ptr<VirtioDevice> device,
                                                     const GuestMemory& memory, EventLoop& loop,
                                                     PciHost& host, Bus& mmio) {
  std::vector<std::unique_ptr<MsiLine>> lines;
  const std::size_t vectors =
      device->queue_sizes().size() + 1;  // each queue its own, and one for the config space
  for (std::size_t i = 0; i < vectors; ++i) {
    auto line = host.new_msi_line();
    if (!line) return fail(fmt::format("making the interrupts of {}", device->name()), line.error());
    lines.push_back(std::move(*line));
  }
  auto transport = std::unique_ptr<VirtioPci>(
      new VirtioPci(std::move(device), memory, loop, host, mmio, std::move(lines)));
  BALLOON_TRY(transport->watch_doorbells());
  return transport;
}

VirtioPci::VirtioPci(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop,
                     PciHost& host, Bus& mmio, std::vector<std::unique_ptr<MsiLine>> lines)
    : PciDevice(std::string(device->name()), identity(device->id()), mmio),
      device_(std::move(device)),
      memory_(memory),
      loop_(loop),
      host_services_(host),
      msix_(std::move(lines)),
      queues_(device_->queue_sizes().size()) {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    queues_[i].max_size = queues_[i].size = device_->queue_sizes()[i];
  }
  config_.add_memory_bar(kBar, kBarSize);
  add_capabilities();
  device_->attach(*this);
}

VirtioPci::~VirtioPci() {
  bar_moved(kBar, std::nullopt);
  for (const Queue& queue : queues_) {
    if (queue.doorbell) loop_.unwatch(queue.doorbell.get());
  }
  const std::lock_guard lock(device_->mutex);
  if ((status_ & kDriverOk) != 0) device_->reset();
}

Result<void> VirtioPci::watch_doorbells() {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    auto event = loop_.watch_event([this, i] { on_doorbell(static_cast<std::uint16_t>(i)); });
    if (!event) return fail(fmt::format("making the doorbells of {}", name()), event.error());
    queues_[i].doorbell = std::move(*event);
  }
  return {};
}

void VirtioPci::add_capabilities() {
  const auto add = [&](CapabilityType type, std::uint32_t offset, std::uint32_t size) {
    config_.add_capability(kVendorCapability,
                           bytes_of(capability(type, offset, size, sizeof(CapabilityBody))), {});
  };
  add(kTypeCommon, kCommon, kCommonSize);
  add(kTypeIsr, kIsr, 1);
  if (device_->config_size() > 0) add(kTypeDevice, kDevice, device_->config_size());
  const NotifyBody notify{
      capability(kTypeNotify, kNotify, static_cast<std::uint32_t>(queues_.size()) * kNotifyMultiplier,
                 sizeof(NotifyBody)),
      kNotifyMultiplier};
  config_.add_capability(kVendorCapability, bytes_of(notify), {});

  // 4.1.4.9: the driver may write bar, offset and length, then access the BAR through the data bytes.
  const AccessBody access{capability(kTypeAccess, 0, 0, sizeof(AccessBody)), {}};
  AccessBody writable{};
  writable.common.bar = 0xff;
  writable.common.offset = writable.common.size = 0xffffffff;
  std::ranges::fill(writable.data, std::uint8_t{0xff});
  access_capability_ = config_.add_capability(kVendorCapability, bytes_of(access), bytes_of(writable));

  struct [[gnu::packed]] {
    std::uint16_t control;
    std::uint32_t table;
    std::uint32_t pending;
  } const msix{static_cast<std::uint16_t>(msix_.vectors() - 1), kMsixTable | kBar, kMsixPending | kBar};
  const std::array writable_control{std::byte{0},
                                    std::byte{(Msix::kControlEnable | Msix::kControlFunctionMask) >> 8}};
  msix_capability_ = config_.add_capability(Msix::kCapabilityId, bytes_of(msix), writable_control);
}

// --- BAR and configuration space ---

void VirtioPci::read_bar(unsigned /*bar*/, std::uint64_t offset, std::span<std::byte> into) {
  const std::uint64_t within = offset % kPart;
  switch (offset - within) {
    case kCommon:
      return read_common(within, into);
    case kIsr:
      std::ranges::fill(into, std::byte{0});
      // Reading acknowledges (4.1.4.5).
      if (within == 0) into[0] = std::byte{isr_.exchange(0)};
      return;
    case kDevice:
      return read_device_config(within, into);
    case kMsixTable:
      return msix_.read_table(within, into);
    case kMsixPending:
      return msix_.read_pending(within, into);
    default:
      std::ranges::fill(into, std::byte{0});
  }
}

void VirtioPci::write_bar(unsigned /*bar*/, std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t within = offset % kPart;
  switch (offset - within) {
    case kCommon:
      return write_common(within, from);
    case kDevice:
      return write_device_config(within, from);
    case kNotify:
      // Only kicks of an odd width come here, or those through the access capability; the others are
      // ioeventfds.
      if (within % kNotifyMultiplier == 0 && within / kNotifyMultiplier < queues_.size()) {
        ring(static_cast<std::uint16_t>(within / kNotifyMultiplier));
      }
      return;
    case kMsixTable:
      return msix_.write_table(within, from);
    default:
      return;
  }
}

void VirtioPci::bar_moved(unsigned /*bar*/, std::optional<GuestAddress> address) {
  const std::lock_guard lock(device_->mutex);
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    if (bar_address_)
      host_services_.disconnect_doorbell(doorbell_at(*bar_address_, i), queues_[i].kick_event());
    if (address) connect_kicks(i, *address);
  }
  bar_address_ = address;
}

void VirtioPci::connect_kicks(std::size_t queue, GuestAddress bar) {
  const auto done = host_services_.connect_doorbell(doorbell_at(bar, queue), queues_[queue].kick_event());
  // Kicks then reach us as MMIO writes: slower, but right.
  if (!done) log::warning("{}: queue {} has no ioeventfd: {}", name(), queue, done.error().message);
}

void VirtioPci::before_config_read(std::size_t offset, std::size_t size) {
  const std::size_t data = access_capability_ + kAccessData;
  if (offset >= data + 4 || offset + size <= data) return;
  const auto length = config_.get<std::uint32_t>(access_capability_ + kAccessSize);
  const auto at = config_.get<std::uint32_t>(access_capability_ + kAccessOffset);
  if (config_.get<std::uint8_t>(access_capability_ + kAccessBar) != kBar) return;
  if ((length != 1 && length != 2 && length != 4) || at % length != 0 || at > kBarSize - length) return;
  std::array<std::byte, 4> value{};
  read_bar(kBar, at, std::span(value).first(length));
  config_.set(data, std::span(value).first(length));
}

void VirtioPci::after_config_write(std::size_t offset, std::size_t size) {
  const std::size_t control = msix_capability_ + 2U;
  if (offset < control + 2 && offset + size > control) {
    msix_.set_control(config_.get<std::uint16_t>(control));
    const std::lock_guard lock(device_->mutex);
    interrupts_changed();
  }

  const std::size_t data = access_capability_ + kAccessData;
  if (offset >= data + 4 || offset + size <= data) return;
  const auto length = config_.get<std::uint32_t>(access_capability_ + kAccessSize);
  const auto at = config_.get<std::uint32_t>(access_capability_ + kAccessOffset);
  if (config_.get<std::uint8_t>(access_capability_ + kAccessBar) != kBar) return;
  if ((length != 1 && length != 2 && length != 4) || at % length != 0 || at > kBarSize - length) return;
  const auto value = config_.get<std::array<std::byte, 4>>(data);
  write_bar(kBar, at, std::span(value).first(length));
}

void VirtioPci::read_device_config(std::uint64_t offset, std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0xff});
  const std::uint64_t size = device_->config_size();
  if (offset > size || into.size() > size - offset) return;
  const std::lock_guard lock(device_->mutex);
  device_->read_config(static_cast<std::uint32_t>(offset), into);
}

void VirtioPci::write_device_config(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t size = device_->config_size();
  if (offset > size || from.size() > size - offset) return;
  const std::lock_guard lock(device_->mutex);
  device_->write_config(static_cast<std::uint32_t>(offset), from);
}

// --- Life cycle ---

void VirtioPci::write_status(std::uint8_t value) {
  if (value == 0) return reset();
  // The driver sets bits one after another and clears none but by reset (2.1.1); NEEDS_RESET is the device's.
  const auto added = static_cast<std::uint8_t>(value & ~kNeedsReset & ~status_);
  status_ |= added & (kAcknowledge | kDriver | kFailed);
  if ((added & kFeaturesOk) != 0 && features_acceptable()) status_ |= kFeaturesOk;
  if ((added & kDriverOk) != 0 && (status_ & kFeaturesOk) != 0 && (status_ & kNeedsReset) == 0) activate();
}

bool VirtioPci::features_acceptable() const {
  return (driver_features_ & ~offered()) == 0 && (driver_features_ & kFeatureVersion1) != 0;
}

void VirtioPci::activate() {
  std::vector<std::unique_ptr<VirtQueue>> queues;
  for (const Queue& queue : queues_) {
    if (!queue.enabled) {
      queues.push_back(nullptr);
      continue;
    }
    auto made = VirtQueue::create(memory_, {.size = queue.size,
                                            .descriptors = queue.descriptors,
                                            .available = queue.available,
                                            .used = queue.used,
                                            .event_idx = (driver_features_ & kFeatureEventIdx) != 0,
                                            .indirect = (driver_features_ & kFeatureIndirectDesc) != 0});
    if (!made) return needs_reset(fmt::format("queue {}: {}", queues.size(), made.error().message));
    queues.push_back(std::make_unique<VirtQueue>(std::move(*made)));
  }
  status_ |= kDriverOk;
  log::debug("{}: driver ready, features {:#x}", name(), driver_features_);
  device_->activate(driver_features_, std::move(queues));
  // A kick that came before DRIVER_OK was dropped: look at every queue once.
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].enabled) ring(static_cast<std::uint16_t>(i));
  }
}

void VirtioPci::reset() {
  const bool was_active = (status_.exchange(0) & kDriverOk) != 0;
  if (was_active) device_->reset();
  msix_.end_direct();
  for (std::size_t i = 0; i < queues_.size(); ++i) divert_kicks(static_cast<std::uint16_t>(i), -1);
  for (Queue& queue : queues_) {
    queue.size = queue.max_size;
    queue.enabled = false;
    queue.descriptors = queue.available = queue.used = 0;
    queue.vector = kNoVector;
  }
  device_feature_select_ = driver_feature_select_ = 0;
  driver_features_ = 0;
  queue_select_ = 0;
  config_vector_ = kNoVector;
  isr_ = 0;
}

void VirtioPci::ring(std::uint16_t queue) {
  const std::uint64_t one = 1;
  // An eventfd write fails only when its counter is full: then it is signalled anyway.
  [[maybe_unused]] const auto written = ::write(queues_[queue].kick_event(), &one, sizeof(one));
}

void VirtioPci::on_doorbell(std::uint16_t queue) {
  const std::lock_guard lock(device_->mutex);
  const std::uint8_t status = status_;
  if ((status & kDriverOk) == 0 || (status & kNeedsReset) != 0 || !queues_[queue].enabled) return;
  device_->process_queue(queue);
}

// --- Interrupts: from the device, with or without its mutex ---

void VirtioPci::interrupt_queue(std::uint16_t queue) {
  if (queue >= queues_.size() || (status_ & kDriverOk) == 0) return;
  isr_ |= kIsrQueue;
  msix_.trigger(queues_[queue].vector);
}

void VirtioPci::divert_kicks(std::uint16_t queue, int event) {
  if (queue >= queues_.size() || queues_[queue].diverted == event) return;
  // KVM has one eventfd at an address: kicks in between are MMIO writes, which ring() sends the same way.
  if (bar_address_)
    host_services_.disconnect_doorbell(doorbell_at(*bar_address_, queue), queues_[queue].kick_event());
  queues_[queue].diverted = event;
  if (bar_address_) connect_kicks(queue, *bar_address_);
}

int VirtioPci::interrupt_event(std::uint16_t queue) {
  return queue < queues_.size() ? msix_.direct(queues_[queue].vector) : -1;
}

void VirtioPci::interrupts_changed() {
  if ((status_ & kDriverOk) == 0) return;
  msix_.end_direct();
  device_->interrupts_changed();
}

void VirtioPci::interrupt_config() {
  ++config_generation_;
  if ((status_ & kDriverOk) == 0) return;
  isr_ |= kIsrConfig;
  msix_.trigger(config_vector_);
}

void VirtioPci::needs_reset(std::string_view why) {
  if ((status_.fetch_or(kNeedsReset) & kNeedsReset) != 0) return;
  if (complaints_++ < kComplaintsLogged) {
    log::warning("{}: the guest broke the rules, the device waits for its reset: {}", name(), why);
  }
  interrupt_config();
}

}  // namespace balloon::vmm
