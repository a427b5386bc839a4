// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/split_ring.h"

#include <fmt/format.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

namespace balloon::vmm {
namespace {

constexpr std::uint16_t kAvailableNoInterrupt = 1;
constexpr std::uint16_t kUsedNoNotify = 1;

// Both rings: flags, index, elements; then used_event or avail_event.
constexpr std::size_t kRingFlags = 0;
constexpr std::size_t kRingIndex = 2;
constexpr std::size_t kRingElements = 4;
constexpr std::size_t kAvailableElement = 2;
constexpr std::size_t kUsedElement = 8;
constexpr std::size_t kRingEnd = 2;

constexpr std::uint64_t kAvailableAlign = 2;
constexpr std::uint64_t kUsedAlign = 4;

/// struct virtq_desc (2.7.5).
struct TableEntry {
  GuestAddress address;
  std::uint32_t length;
  std::uint16_t flags;
  std::uint16_t next;
};
static_assert(sizeof(TableEntry) == kDescriptorSize);

}  // namespace

Result<std::unique_ptr<Ring>> SplitRing::create(const GuestMemory& memory, const QueueLayout& layout) {
  if (!std::has_single_bit(layout.size) || layout.size > kMaxQueueSize) {
    return fail(fmt::format("queue size {}: must be a power of two, at most {}", layout.size, kMaxQueueSize));
  }
  const auto descriptors =
      part(memory, "descriptor table", layout.descriptors, layout.size * kDescriptorSize, kDescriptorsAlign);
  if (!descriptors) return std::unexpected(descriptors.error());
  const auto available = part(memory, "available ring", layout.available,
                              kRingElements + layout.size * kAvailableElement + kRingEnd, kAvailableAlign);
  if (!available) return std::unexpected(available.error());
  const auto used = part(memory, "used ring", layout.used,
                         kRingElements + layout.size * kUsedElement + kRingEnd, kUsedAlign);
  if (!used) return std::unexpected(used.error());
  return std::unique_ptr<Ring>(new SplitRing(memory, layout, *descriptors, *available, *used));
}

Result<std::optional<Chain>> SplitRing::take() {
  // Acquire: what the driver wrote before it moved the index is visible after this.
  const std::uint16_t available =
      field<std::uint16_t>(available_, kRingIndex).load(std::memory_order_acquire);
  const auto pending = static_cast<std::uint16_t>(available - next_available_);
  if (pending == 0) return std::nullopt;
  if (pending > layout().size) {
    return fail(fmt::format("available index {} is {} ahead of {} in a queue of {}", available, pending,
                            next_available_, layout().size));
  }
  const std::size_t slot = next_available_ % layout().size;
  const std::uint16_t head = field<std::uint16_t>(available_, kRingElements + slot * kAvailableElement)
                                 .load(std::memory_order_relaxed);
  if (head >= layout().size) return fail(fmt::format("chain head {} in a queue of {}", head, layout().size));
  ++next_available_;

  Chain chain = blank();
  if (auto walked = walk(chain, head); !walked) {
    return refuse(chain, fmt::format("chain {}", head), walked.error());
  }
  return give(std::move(chain), {.id = head});
}

Result<void> SplitRing::walk(Chain& chain, std::uint16_t head) const {
  std::span<const std::byte> table = descriptors_;
  bool in_indirect = false;
  std::uint64_t index = head;
  // 2.7.5.3.1: no chain is longer than the queue, in an indirect table or not. The descriptor that points to
  // the table does not count: Linux fills tables to the last of the queue's size. This also ends every loop.
  for (std::uint32_t left = layout().size; left > 0;) {
    const auto entry = copy_once<TableEntry>(table.data() + index * kDescriptorSize);
    const Descriptor descriptor{entry.address, entry.length, entry.flags};
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      if (in_indirect) return fail("indirect table within an indirect table");
      const auto indirect = indirect_table(descriptor);
      if (!indirect) return std::unexpected(indirect.error());
      table = *indirect;
      in_indirect = true;
      index = 0;
      continue;  // once: the table has no other
    }
    --left;
    BALLOON_TRY(add(chain, descriptor));
    if ((descriptor.flags & kDescriptorNext) == 0) return {};
    index = entry.next;
    if (index >= table.size() / kDescriptorSize) {
      return fail(fmt::format("next descriptor {} in a table of {}", index, table.size() / kDescriptorSize));
    }
  }
  return fail(fmt::format("longer than the queue of {}, or a loop", layout().size));
}

void SplitRing::write_used(std::span<const Used> used) {
  for (const Used& one : used) {
    const std::uint32_t element[2] = {one.token.id, one.written};
    const std::size_t slot = next_used_ % layout().size;
    std::memcpy(used_.data() + kRingElements + slot * kUsedElement, element, sizeof element);
    ++next_used_;
  }
  // Release: the driver that sees the index sees the element, and what the device wrote to the buffers.
  field<std::uint16_t>(used_, kRingIndex).store(next_used_, std::memory_order_release);
}

bool SplitRing::should_interrupt() {
  const std::uint16_t before = std::exchange(signalled_used_, next_used_);
  if (before == next_used_) return false;
  // 2.7.7.2: a full barrier between moving the used index and reading what the driver wants to be told.
  // Storing the index once more, sequentially consistent, is that barrier; unlike a fence it is also known to
  // ThreadSanitizer.
  field<std::uint16_t>(used_, kRingIndex).store(next_used_, std::memory_order_seq_cst);
  if (!layout().event_idx) {
    return (field<std::uint16_t>(available_, kRingFlags).load(std::memory_order_seq_cst) &
            kAvailableNoInterrupt) == 0;
  }
  const std::uint16_t used_event =
      field<std::uint16_t>(available_, kRingElements + layout().size * kAvailableElement)
          .load(std::memory_order_seq_cst);
  return static_cast<std::uint16_t>(next_used_ - used_event - 1) <
         static_cast<std::uint16_t>(next_used_ - before);
}

bool SplitRing::enable_kicks() {
  // Full barrier, as above, between this store and the look at the available index: else a kick could be
  // missed.
  if (layout().event_idx) {
    field<std::uint16_t>(used_, kRingElements + layout().size * kUsedElement)
        .store(next_available_, std::memory_order_seq_cst);
  } else {
    field<std::uint16_t>(used_, kRingFlags).store(0, std::memory_order_seq_cst);
  }
  return field<std::uint16_t>(available_, kRingIndex).load(std::memory_order_seq_cst) != next_available_;
}

void SplitRing::disable_kicks() {
  // With EVENT_IDX an avail_event that is left behind already keeps the driver from kicking.
  if (!layout().event_idx) {
    field<std::uint16_t>(used_, kRingFlags).store(kUsedNoNotify, std::memory_order_relaxed);
  }
}

QueuePosition SplitRing::position() const {
  return {.next_available = next_available_, .next_used = next_used_};
}

Result<void> SplitRing::set_position(const QueuePosition& position) {
  const auto out = static_cast<std::uint16_t>(position.next_available - position.next_used);
  if (out > layout().size) {
    return fail(fmt::format("queue position {} taken, {} used: impossible in a queue of {}",
                            position.next_available, position.next_used, layout().size));
  }
  next_available_ = position.next_available;
  next_used_ = signalled_used_ = position.next_used;
  all_returned();
  return {};
}

}  // namespace balloon::vmm
