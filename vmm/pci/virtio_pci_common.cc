// The common configuration structure: what the driver reads, and what it may write when.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <mutex>

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

VirtioPci::Queue* VirtioPci::selected_queue() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

std::uint64_t VirtioPci::offered() const {
  const bool packed = transport_.packed_rings && device_->takes_packed_rings();
  return device_->offered_features() | kFeatureVersion1 | kFeatureRingReset |
         (packed ? kFeatureRingPacked : 0);
}

void VirtioPci::read_common(std::uint64_t offset, std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0});
  if (offset >= kCommonSize || into.size() > kCommonSize - offset) return;
  const std::lock_guard lock(device_->mutex);
  // Feature words past the second are reserved and read as 0.
  const auto word = [](std::uint64_t features, std::uint32_t select) {
    return select < 2 ? static_cast<std::uint32_t>(features >> (32 * select)) : 0;
  };
  CommonConfig config{};
  config.device_feature_select = device_feature_select_;
  config.device_feature = word(offered(), device_feature_select_);
  config.driver_feature_select = driver_feature_select_;
  config.driver_feature = word(driver_features_, driver_feature_select_);
  config.config_msix_vector = config_vector_;
  config.num_queues = static_cast<std::uint16_t>(queues_.size());
  config.device_status = status_;
  config.config_generation = config_generation_;
  config.queue_select = queue_select_;
  config.queue_msix_vector = kNoVector;
  if (const Queue* queue = selected_queue()) {  // an unknown queue reads as size 0: not there (4.1.4.3.1)
    config.queue_size = queue->size;
    config.queue_msix_vector = queue->vector;
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
  const std::lock_guard lock(device_->mutex);
  if (offset == offsetof(CommonConfig, device_feature_select) && size == 4) {
    device_feature_select_ = static_cast<std::uint32_t>(value);
  } else if (offset == offsetof(CommonConfig, driver_feature_select) && size == 4) {
    driver_feature_select_ = static_cast<std::uint32_t>(value);
  } else if (offset == offsetof(CommonConfig, driver_feature) && size == 4) {
    // Frozen once the driver has said FEATURES_OK.
    if ((status_ & kFeaturesOk) != 0 || driver_feature_select_ > 1) return;
    const unsigned shift = 32 * driver_feature_select_;
    driver_features_ = (driver_features_ & ~(0xffffffffULL << shift)) | value << shift;
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
    queue->vector = checked_vector(value);
    return interrupts_changed();
  }
  const bool runs = (status_ & kDriverOk) != 0;
  if (offset == offsetof(CommonConfig, queue_reset) && size == 2) {
    if (value == 1 && queue->enabled && negotiated(kFeatureRingReset)) reset_queue(*queue);
    return;
  }
  // From here on the queue's shape, frozen once it is enabled or the device runs (the class of
  // CVE-2026-5747). Of a running device, only a queue that was reset can be set up.
  if (queue->enabled || (runs && !negotiated(kFeatureRingReset))) return;
  if (offset == offsetof(CommonConfig, queue_size) && size == 2) {
    // A packed ring may have any size (2.8.10).
    const bool fits = negotiated(kFeatureRingPacked) || std::has_single_bit(value);
    if (fits && value != 0 && value <= queue->max_size) queue->size = static_cast<std::uint16_t>(value);
    return;
  }
  if (offset == offsetof(CommonConfig, queue_enable) && size == 2) {
    if (value == 1) enable_queue(*queue);
    return;
  }
  // 64-bit addresses: whole, or either half (4.1.3.1).
  const auto address = [&](std::size_t field, GuestAddress& into) {
    if (offset == field && size == 8) into = value;
    if (offset == field && size == 4) into = (into & ~0xffffffffULL) | value;
    if (offset == field + 4 && size == 4) into = (into & 0xffffffffULL) | value << 32;
  };
  address(offsetof(CommonConfig, queue_desc), queue->descriptors);
  address(offsetof(CommonConfig, queue_driver), queue->available);
  address(offsetof(CommonConfig, queue_device), queue->used);
}

void VirtioPci::enable_queue(Queue& queue) {
  queue.enabled = true;
  const std::uint8_t status = status_;
  if ((status & kDriverOk) == 0 || (status & kNeedsReset) != 0) return;
  auto made = make_queue(queue);
  if (!made) return needs_reset(made.error().message);
  queue.ring = made->get();
  device_->start_queue(index_of(queue), std::move(*made));
}

/// 2.6.1: when this returns, the driver may do with the rings and buffers what it likes.
void VirtioPci::reset_queue(Queue& queue) {
  if (queue.ring != nullptr) device_->reset_queue(index_of(queue));
  queue.clear();
}

std::uint16_t VirtioPci::checked_vector(std::uint64_t value) const {
  return value < msix_.vectors() ? static_cast<std::uint16_t>(value) : kNoVector;
}

}  // namespace balloon::vmm
