// SPDX-License-Identifier: Apache-2.0
// A virtio device's state in snapshots: what its driver set up, how far its queues have come, and what the
// device adds.
#include <fmt/format.h>

#include <vector>

#include "vmm/snapshot/state_stream.h"
#include "vmm/virtio/transport.h"

namespace balloon::vmm {
using namespace virtio_transport;  // NOLINT: the constants of the transport's own header
namespace {

struct TransportState {
  std::uint64_t driver_features = 0;
  std::uint32_t device_feature_select = 0;
  std::uint32_t driver_feature_select = 0;
  std::uint16_t queue_select = 0;
  std::uint8_t status = 0;
  std::uint8_t config_generation = 0;
  std::uint8_t isr = 0;
  std::uint8_t reserved[3] = {};
  std::uint32_t queues = 0;
};

struct QueueState {
  std::uint64_t descriptors = 0;
  std::uint64_t available = 0;
  std::uint64_t used = 0;
  std::uint16_t size = 0;
  std::uint16_t next_available = 0;
  std::uint16_t next_used = 0;
  std::uint8_t available_wrap = 1;
  std::uint8_t used_wrap = 1;
  std::uint8_t enabled = 0;
  std::uint8_t reserved[7] = {};
};

}  // namespace

void VirtioTransport::save_driver(StateWriter& writer) const {
  const MutexLock lock(device_->mutex());
  writer.section("virtio");
  writer.put(TransportState{.driver_features = driver_features_,
                            .device_feature_select = device_feature_select_,
                            .driver_feature_select = driver_feature_select_,
                            .queue_select = queue_select_,
                            .status = status_,
                            .config_generation = config_generation_,
                            .isr = isr_,
                            .queues = static_cast<std::uint32_t>(queues_.size())});
  for (const Queue& queue : queues_) {
    // Chains that the device holds (the balloon's statistics buffer) are available again for the restored
    // one.
    const QueuePosition at = queue.ring != nullptr ? queue.ring->position().rewound() : QueuePosition{};
    writer.put(QueueState{.descriptors = queue.descriptors,
                          .available = queue.available,
                          .used = queue.used,
                          .size = queue.size,
                          .next_available = at.next_available,
                          .next_used = at.next_used,
                          .available_wrap = static_cast<std::uint8_t>(at.available_wrap),
                          .used_wrap = static_cast<std::uint8_t>(at.used_wrap),
                          .enabled = static_cast<std::uint8_t>(queue.enabled)});
  }
  device_->save(writer);
}

Result<void> VirtioTransport::load_driver(StateReader& reader) {
  const MutexLock lock(device_->mutex());
  BALLOON_TRY(reader.section("virtio"));
  const auto state = reader.get<TransportState>();
  if (state.queues != queues_.size()) {
    return fail(fmt::format("{}: the snapshot has {} queues, this machine has {}", device_->name(),
                            state.queues, queues_.size()));
  }
  driver_features_ = state.driver_features;
  device_feature_select_ = state.device_feature_select;
  driver_feature_select_ = state.driver_feature_select;
  queue_select_ = state.queue_select;
  config_generation_ = state.config_generation;
  isr_ = state.isr;
  std::vector<QueuePosition> positions;
  for (Queue& queue : queues_) {
    const auto saved = reader.get<QueueState>();
    if (saved.size > queue.max_size) {
      return fail(fmt::format("{}: the snapshot has a queue of {}, this machine's have at most {}",
                              device_->name(), saved.size, queue.max_size));
    }
    queue.size = saved.size;
    queue.enabled = saved.enabled != 0;
    queue.descriptors = saved.descriptors;
    queue.available = saved.available;
    queue.used = saved.used;
    positions.push_back({.next_available = saved.next_available,
                         .next_used = saved.next_used,
                         .available_wrap = saved.available_wrap != 0,
                         .used_wrap = saved.used_wrap != 0});
  }
  BALLOON_TRY(reader.check());
  const bool was_active = (state.status & kDriverOk) != 0;
  const std::uint64_t unknown = driver_features_ & ~acceptable();
  const bool accepted = (state.status & (kFeaturesOk | kDriverOk)) != 0;
  if (accepted && unknown != 0) {
    return fail(fmt::format(
        "{}: its driver uses features {:#x}, which this machine's device does not have: start it with "
        "the same options and on a host like the first",
        device_->name(), unknown));
  }
  status_ = state.status & static_cast<std::uint8_t>(~kDriverOk);
  if (was_active) {
    if ((state.status & kNeedsReset) == 0) {
      activate(positions);
    } else {
      status_ |= kDriverOk;  // broken: it waits for its reset
    }
  }
  BALLOON_TRY(device_->load(reader));
  if (was_active) {
    // An interrupt that was on its way when the first machine stopped may be lost; one too many does no harm.
    for (std::size_t i = 0; i < queues_.size(); ++i) {
      if (queues_[i].enabled) interrupt_queue(static_cast<std::uint16_t>(i));
    }
    interrupt_config();
  }
  update_pin();
  return {};
}

}  // namespace balloon::vmm
