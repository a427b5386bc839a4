// SPDX-License-Identifier: Apache-2.0
// A virtqueue, device side. Which kind of ring it is shows nowhere (split_ring.h, packed_ring.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/chain.h"
#include "vmm/virtio/ring.h"

namespace balloon::vmm {

class VirtQueue {
 public:
  /// Checks that the layout is sane and lies in guest RAM, aligned as the spec asks.
  static Result<VirtQueue> create(const GuestMemory& memory, const QueueLayout& layout);

  /// The next available chain; nothing when there is none. An error means that the guest broke the rules
  /// (loop, too long, index out of range, buffer outside RAM, available index more than the queue's size
  /// ahead, more chains than the queue holds): the device answers it with DeviceHost::needs_reset().
  Result<std::optional<Chain>> take() { return ring_->take(); }
  /// Returns a chain. `written`: bytes the device wrote to its writable part.
  void put(Chain chain, std::uint32_t written) { ring_->put(chain, written); }
  /// Returns several chains that the driver sees at once or not at all (the buffers of one merged frame,
  /// 5.1.6.4); `written` has one number a chain.
  void put_all(std::span<Chain> chains, std::span<const std::uint32_t> written) {
    ring_->put_all(chains, written);
  }
  /// Drops a chain without a word to the guest: for a reset, after which the rings are no longer ours to
  /// write.
  static void forget(Chain chain) { Ring::forget(chain); }
  /// Whether the guest wants an interrupt for what was put since the last call (flags or EVENT_IDX).
  bool should_interrupt() { return ring_->should_interrupt(); }
  /// Asks the guest for a kick with the next chain; returns true when a chain came in the meantime (look
  /// again).
  bool enable_kicks() { return ring_->enable_kicks(); }
  /// Tells the guest that kicks are not needed while the queue is being processed.
  void disable_kicks() { ring_->disable_kicks(); }

  std::uint16_t size() const { return layout().size; }
  const QueueLayout& layout() const { return ring_->layout(); }

  // For snapshots, and for handing a queue to the kernel (vhost) and back.
  QueuePosition position() const { return ring_->position(); }
  /// Before any chain is taken, or once all are returned or forgotten. Fails when no queue of this size could
  /// stand there.
  Result<void> set_position(const QueuePosition& position) { return ring_->set_position(position); }

 private:
  explicit VirtQueue(std::unique_ptr<Ring> ring) : ring_(std::move(ring)) {}
  std::unique_ptr<Ring> ring_;
};

}  // namespace balloon::vmm
