// SPDX-License-Identifier: Apache-2.0
// The legacy interface (virtio 1.2, 4.1.4.10): a header of registers in I/O space, then the device's
// configuration. Queues have their full size and one page-aligned address. Drivers of that time know neither
// FEATURES_OK nor VERSION_1; fields have the guest's byte order, which is ours.
#include <algorithm>
#include <array>
#include <cstring>

#include "vmm/pci/virtio_pci.h"

namespace balloon::vmm {
using namespace virtio_pci;  // NOLINT: the constants of the transport's own header
namespace {

struct [[gnu::packed]] LegacyHeader {
  std::uint32_t device_features;
  std::uint32_t driver_features;
  std::uint32_t queue_page;
  std::uint16_t queue_size;
  std::uint16_t queue_select;
  std::uint16_t queue_notify;
  std::uint8_t device_status;
  std::uint8_t isr;
  std::uint16_t config_vector;  // this and the next one only while MSI-X is on
  std::uint16_t queue_vector;
};
static_assert(sizeof(LegacyHeader) == kLegacyHeaderMsix);
static_assert(offsetof(LegacyHeader, config_vector) == kLegacyHeader);
static_assert(offsetof(LegacyHeader, queue_notify) == kLegacyNotify);

constexpr std::uint64_t kQueueAlign = 4096;  // of a queue's address and of its used ring (2.7.2)
constexpr std::uint64_t kDescriptor = 16;

}  // namespace

std::uint32_t VirtioPci::legacy_header() const { return msix_.enabled() ? kLegacyHeaderMsix : kLegacyHeader; }

std::uint64_t VirtioPci::offered_to_legacy() const {
  // 32 bits, and ANY_LAYOUT: no device here cares how a request is cut into buffers.
  return static_cast<std::uint32_t>(device_->offered_features()) | kFeatureAnyLayout;
}

std::uint64_t VirtioPci::acceptable() const {
  return offered() | (transport_.interface == VirtioInterface::modern ? 0 : offered_to_legacy());
}

void VirtioPci::read_legacy(std::uint64_t offset, std::span<std::byte> into) {
  const std::uint32_t header_size = legacy_header();
  if (offset >= header_size) return read_device_config(offset - header_size, into);
  std::ranges::fill(into, std::byte{0});
  if (into.size() > header_size - offset) return;
  LegacyHeader header{};
  constexpr std::size_t kIsrAt = offsetof(LegacyHeader, isr);
  if (offset <= kIsrAt && offset + into.size() > kIsrAt) header.isr = take_isr();
  const MutexLock lock(device_->mutex());
  header.device_features = static_cast<std::uint32_t>(offered_to_legacy());
  header.driver_features = static_cast<std::uint32_t>(driver_features_);
  header.queue_select = queue_select_;
  header.device_status = status_;
  header.config_vector = config_vector_;
  header.queue_vector = kNoVector;
  if (const Queue* queue = selected_queue()) {  // an unknown queue reads as size 0: not there
    header.queue_size = queue->max_size;
    header.queue_page = queue->enabled ? static_cast<std::uint32_t>(queue->descriptors / kQueueAlign) : 0;
    header.queue_vector = queue_vectors_[queue_select_];
  }
  std::memcpy(into.data(), reinterpret_cast<const std::byte*>(&header) + offset, into.size());
}

void VirtioPci::write_legacy(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint32_t header_size = legacy_header();
  if (offset >= header_size) return write_device_config(offset - header_size, from);
  std::uint64_t value = 0;
  std::memcpy(&value, from.data(), std::min(from.size(), sizeof(value)));
  const MutexLock lock(device_->mutex());
  write_legacy_header(offset, from.size(), value);
}

void VirtioPci::write_legacy_header(std::uint64_t offset, std::size_t size, std::uint64_t value) {
  const auto at = [&](std::size_t field, std::size_t width) { return offset == field && size == width; };
  if (at(offsetof(LegacyHeader, driver_features), 4)) {
    if ((status_ & (kFeaturesOk | kDriverOk)) == 0) driver_features_ = value & offered_to_legacy();
  } else if (at(offsetof(LegacyHeader, queue_page), 4)) {
    set_legacy_queue(value);
  } else if (at(offsetof(LegacyHeader, queue_select), 2)) {
    queue_select_ = static_cast<std::uint16_t>(value);
  } else if (at(offsetof(LegacyHeader, queue_notify), 2)) {
    if (value < queues_.size()) ring(static_cast<std::uint16_t>(value));  // an ioeventfd could not be made
  } else if (at(offsetof(LegacyHeader, device_status), 1)) {
    write_status(static_cast<std::uint8_t>(value));
    if ((value & kDriverOk) != 0) start_legacy_driver();
  } else if (at(offsetof(LegacyHeader, config_vector), 2)) {
    config_vector_ = checked_vector(value);
  } else if (at(offsetof(LegacyHeader, queue_vector), 2)) {
    if (selected_queue() != nullptr) {
      queue_vectors_[queue_select_] = checked_vector(value);
      messages_changed();
    }
  }
}

void VirtioPci::set_legacy_queue(std::uint64_t page) {
  Queue* queue = selected_queue();
  // Frozen once the device runs, as in the modern interface.
  if (queue == nullptr || (status_ & (kFeaturesOk | kDriverOk)) != 0) return;
  queue->enabled = page != 0;
  queue->size = queue->max_size;
  // 2.7.2: the three parts in a row, the used ring on a page of its own.
  queue->descriptors = page * kQueueAlign;
  queue->available = queue->descriptors + kDescriptor * queue->size;
  const std::uint64_t available_end = queue->available + 2 * (3 + std::uint64_t{queue->size});
  queue->used = (available_end + kQueueAlign - 1) / kQueueAlign * kQueueAlign;
}

/// DRIVER_OK of a legacy driver, said or implied: those before Linux 3.18 used their queues in probe, before
/// they said so (3.1.2).
void VirtioPci::start_legacy_driver() {
  if (transport_.interface == VirtioInterface::modern) return;
  const std::uint8_t status = status_;
  if ((status & kDriver) == 0 || (status & (kFeaturesOk | kDriverOk | kNeedsReset)) != 0) return;
  driver_features_ &= offered_to_legacy();
  activate();
}

}  // namespace balloon::vmm
