// SPDX-License-Identifier: Apache-2.0
// The common configuration structure: what the driver reads, and what it may write when.
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "vmm/pci/virtio_pci.h"

namespace balloon::vmm {
using namespace virtio_pci;  // NOLINT: the constants of the transport's own header
namespace {

/// struct virtio_pci_common_cfg (4.1.4.3): every field lies at its natural alignment.
struct CommonConfig {
  std::uint32_t device_feature_select;
  std::uint32_t device_feature;
  std::uint32_t driver_feature_select;
  std::uint32_t driver_feature;
  std::uint16_t config_msix_vector;
  std::uint16_t num_queues;
  std::uint8_t device_status;
  std::uint8_t config_generation;
  std::uint16_t queue_select;
  std::uint16_t queue_size;
  std::uint16_t queue_msix_vector;
  std::uint16_t queue_enable;
  std::uint16_t queue_notify_off;
  std::uint64_t queue_desc;
  std::uint64_t queue_driver;
  std::uint64_t queue_device;
  std::uint16_t queue_notify_data;  // not offered: reads as 0
  std::uint16_t queue_reset;        // a reset is over when its write is: always 0
};
static_assert(offsetof(CommonConfig, queue_reset) + 2 == kCommonSize);

std::uint64_t little_endian(std::span<const std::byte> from) {
  std::uint64_t value = 0;
  std::memcpy(&value, from.data(), std::min(from.size(), sizeof(value)));
  return value;
}

}  // namespace

void VirtioPci::read_common(std::uint64_t offset, std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0});
  if (offset >= kCommonSize || into.size() > kCommonSize - offset) return;
  const MutexLock lock(device_->mutex());
  CommonConfig config{};
  config.device_feature_select = device_feature_select_;
  config.device_feature = offered_word();
  config.driver_feature_select = driver_feature_select_;
  config.driver_feature = driver_word();
  config.config_msix_vector = config_vector_;
  config.num_queues = static_cast<std::uint16_t>(queues_.size());
  config.device_status = status_;
  config.config_generation = config_generation_;
  config.queue_select = queue_select_;
  config.queue_msix_vector = kNoVector;
  if (const Queue* queue = selected_queue()) {  // an unknown queue reads as size 0: not there (4.1.4.3.1)
    config.queue_size = queue->size;
    config.queue_msix_vector = queue_vectors_[queue_select_];
    config.queue_enable = queue->enabled ? 1 : 0;
    config.queue_notify_off = queue_select_;
    config.queue_desc = queue->descriptors;
    config.queue_driver = queue->available;
    config.queue_device = queue->used;
  }
  std::memcpy(into.data(), reinterpret_cast<const std::byte*>(&config) + offset, into.size());
}

void VirtioPci::write_common(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t value = little_endian(from);
  const std::size_t size = from.size();
  const MutexLock lock(device_->mutex());
  if (offset == offsetof(CommonConfig, device_feature_select) && size == 4) {
    device_feature_select_ = static_cast<std::uint32_t>(value);
  } else if (offset == offsetof(CommonConfig, driver_feature_select) && size == 4) {
    driver_feature_select_ = static_cast<std::uint32_t>(value);
  } else if (offset == offsetof(CommonConfig, driver_feature) && size == 4) {
    write_driver_word(static_cast<std::uint32_t>(value));
  } else if (offset == offsetof(CommonConfig, config_msix_vector) && size == 2) {
    config_vector_ = checked_vector(value);
  } else if (offset == offsetof(CommonConfig, device_status) && size == 1) {
    write_status(static_cast<std::uint8_t>(value));
  } else if (offset == offsetof(CommonConfig, queue_select) && size == 2) {
    queue_select_ = static_cast<std::uint16_t>(value);
  } else {
    write_queue_field(offset, size, value);
  }
}

void VirtioPci::write_queue_field(std::uint64_t offset, std::size_t size, std::uint64_t value) {
  Queue* queue = selected_queue();
  if (queue == nullptr) return;
  if (offset == offsetof(CommonConfig, queue_msix_vector) && size == 2) {
    queue_vectors_[queue_select_] = checked_vector(value);
    return messages_changed();
  }
  if (offset == offsetof(CommonConfig, queue_reset) && size == 2) {
    if (value == 1 && queue->enabled && negotiated(kFeatureRingReset)) reset_queue(*queue);
  } else if (offset == offsetof(CommonConfig, queue_size) && size == 2) {
    set_queue_size(*queue, value);
  } else if (offset == offsetof(CommonConfig, queue_enable) && size == 2) {
    if (value == 1) enable_queue(*queue);
  }
  // 64-bit addresses: whole, or either half (4.1.3.1).
  const auto address = [&](std::size_t field, GuestAddress Queue::* part) REQUIRES(device_->mutex()) {
    const auto low = static_cast<std::uint32_t>(value);
    if (offset == field && size >= 4) set_queue_address(*queue, part, false, low);
    if (offset == field && size == 8) {
      set_queue_address(*queue, part, true, static_cast<std::uint32_t>(value >> 32));
    }
    if (offset == field + 4 && size == 4) set_queue_address(*queue, part, true, low);
  };
  address(offsetof(CommonConfig, queue_desc), &Queue::descriptors);
  address(offsetof(CommonConfig, queue_driver), &Queue::available);
  address(offsetof(CommonConfig, queue_device), &Queue::used);
}

}  // namespace balloon::vmm
