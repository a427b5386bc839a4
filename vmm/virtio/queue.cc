// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/queue.h"

#include <utility>

#include "vmm/virtio/packed_ring.h"
#include "vmm/virtio/split_ring.h"

namespace balloon::vmm {

Result<VirtQueue> VirtQueue::create(const GuestMemory& memory, const QueueLayout& layout) {
  auto ring = layout.packed ? PackedRing::create(memory, layout) : SplitRing::create(memory, layout);
  if (!ring) return std::unexpected(std::move(ring.error()));
  return VirtQueue(std::move(*ring));
}

}  // namespace balloon::vmm
