// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/packed_ring.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

namespace balloon::vmm {
namespace {

/// struct pvirtq_desc (2.8.13).
struct RingEntry {
  GuestAddress address;
  std::uint32_t length;
  std::uint16_t id;
  std::uint16_t flags;
};
static_assert(sizeof(RingEntry) == kDescriptorSize);
constexpr std::size_t kEntryLength = 8;
constexpr std::size_t kEntryId = 12;
constexpr std::size_t kEntryFlags = 14;
constexpr std::uint16_t kFlagAvailable = 1U << 7;
constexpr std::uint16_t kFlagUsed = 1U << 15;

// struct pvirtq_event_suppress (2.8.14) as one word: the descriptor's offset in 15 bits, its wrap counter,
// then the flags.
constexpr std::uint64_t kEventSize = 4;
constexpr std::uint32_t kEventOffset = 0x7fff;
constexpr std::uint32_t kEventWrap = 1U << 15;
constexpr unsigned kEventFlagsShift = 16;
constexpr std::uint32_t kEventFlagsMask = 3;
constexpr std::uint32_t kEventEnable = 0;
constexpr std::uint32_t kEventDisable = 1;
constexpr std::uint32_t kEventDescriptor = 2;  // only with EVENT_IDX

}  // namespace

Result<std::unique_ptr<Ring>> PackedRing::create(const GuestMemory& memory, const QueueLayout& layout) {
  if (layout.size == 0 || layout.size > kMaxQueueSize) {
    return fail(fmt::format("queue size {}: must be 1 to {}", layout.size, kMaxQueueSize));
  }
  const auto ring =
      part(memory, "descriptor ring", layout.descriptors, layout.size * kDescriptorSize, kDescriptorsAlign);
  if (!ring) return std::unexpected(ring.error());
  const auto driver = part(memory, "driver event suppression", layout.available, kEventSize, kEventSize);
  if (!driver) return std::unexpected(driver.error());
  const auto device = part(memory, "device event suppression", layout.used, kEventSize, kEventSize);
  if (!device) return std::unexpected(device.error());
  return std::unique_ptr<Ring>(new PackedRing(memory, layout, *ring, *driver, *device));
}

void PackedRing::advance(Place& place, std::uint16_t slots) const {
  const std::uint32_t index = std::uint32_t{place.index} + slots;
  if (index >= layout().size) place.wrap = !place.wrap;
  place.index = static_cast<std::uint16_t>(index % layout().size);
}

std::optional<std::uint16_t> PackedRing::available_flags(std::memory_order order) const {
  const std::uint16_t flags =
      field<std::uint16_t>(ring_, next_available_.index * kDescriptorSize + kEntryFlags).load(order);
  const bool available = (flags & kFlagAvailable) != 0;
  const bool used = (flags & kFlagUsed) != 0;
  if (available != next_available_.wrap || used == next_available_.wrap) return std::nullopt;
  return flags;
}

Result<std::optional<Chain>> PackedRing::take() {
  // Acquire: what the driver wrote before these flags is visible after this.
  const auto flags = available_flags(std::memory_order_acquire);
  if (!flags) return std::nullopt;
  Chain chain = blank();
  const auto token = walk(chain, *flags);
  if (!token) {
    return refuse(chain, fmt::format("chain at descriptor {}", next_available_.index), token.error());
  }
  advance(next_available_, token->slots);
  return give(std::move(chain), *token);
}

Result<ChainToken> PackedRing::walk(Chain& chain, std::uint16_t flags) const {
  Place place = next_available_;
  // No chain is longer than the queue (2.8.20). This also ends every loop.
  for (std::uint16_t slots = 1; slots <= layout().size; ++slots) {
    const auto entry = copy_once<RingEntry>(ring_.data() + place.index * kDescriptorSize);
    // The head's flags are those that made it available; the copy's may be newer.
    const Descriptor descriptor{entry.address, entry.length, slots == 1 ? flags : entry.flags};
    const ChainToken token{.id = entry.id, .slots = slots};  // 2.8.6: the last descriptor has the id
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      if (slots > 1) return fail("indirect descriptor within a chain");
      const auto table = indirect_table(descriptor);
      if (!table) return std::unexpected(table.error());
      BALLOON_TRY(walk_table(chain, *table));
      return token;
    }
    BALLOON_TRY(add(chain, descriptor));
    if ((descriptor.flags & kDescriptorNext) == 0) return token;
    advance(place, 1);
  }
  return fail(fmt::format("longer than the queue of {}", layout().size));
}

Result<void> PackedRing::walk_table(Chain& chain, std::span<const std::byte> table) const {
  const std::size_t entries = table.size() / kDescriptorSize;
  if (entries > layout().size) {
    return fail(fmt::format("indirect table of {} descriptors in a queue of {}", entries, layout().size));
  }
  for (std::size_t i = 0; i < entries; ++i) {
    const auto entry = copy_once<RingEntry>(table.data() + i * kDescriptorSize);
    // 2.8.7: all of the table is used in its order, and WRITE is the only flag that counts.
    if ((entry.flags & kDescriptorIndirect) != 0) return fail("indirect table within an indirect table");
    BALLOON_TRY(add(chain, {entry.address, entry.length, entry.flags}));
  }
  return {};
}

void PackedRing::write_used(std::span<const Used> used) {
  // The driver looks at entries in their order: until the first has its flags, it sees none.
  const std::size_t first = next_used_.index * kDescriptorSize;
  std::uint16_t first_flags = 0;
  for (std::size_t i = 0; i < used.size(); ++i) {
    const auto& [token, written] = used[i];
    const std::size_t at = next_used_.index * kDescriptorSize;
    std::memcpy(ring_.data() + at + kEntryLength, &written, sizeof written);
    std::memcpy(ring_.data() + at + kEntryId, &token.id, sizeof token.id);
    std::uint16_t flags = next_used_.wrap ? kFlagAvailable | kFlagUsed : 0;
    if (written > 0) flags |= kDescriptorWrite;
    if (i == 0) {
      first_flags = flags;
    } else {
      field<std::uint16_t>(ring_, at + kEntryFlags).store(flags, std::memory_order_relaxed);
    }
    advance(next_used_, token.slots);
    unsignalled_ = std::min<std::uint32_t>(unsignalled_ + token.slots, layout().size);
  }
  // Release: the driver that sees the flags sees the rest, and what the device wrote to the buffers.
  // Sequentially consistent: it is also the full barrier before should_interrupt() reads what the driver
  // wants to be told. The place may be the driver's again by then, so it could not be stored once more.
  field<std::uint16_t>(ring_, first + kEntryFlags).store(first_flags, std::memory_order_seq_cst);
}

bool PackedRing::should_interrupt() {
  const std::uint32_t count = std::exchange(unsignalled_, 0);
  if (count == 0) return false;
  const std::uint32_t event = field<std::uint32_t>(driver_event_, 0).load(std::memory_order_seq_cst);
  switch (event >> kEventFlagsShift & kEventFlagsMask) {
    case kEventDisable:
      return false;
    case kEventDescriptor:
      break;
    default:
      return true;
  }
  if (!layout().event_idx || count == layout().size) return true;  // a whole round passes every descriptor
  // Whether one of the last `count` places used is the event's. Places of the round before count down from 0.
  const bool this_round = ((event & kEventWrap) != 0) == next_used_.wrap;
  const std::int32_t place =
      static_cast<std::int32_t>(event & kEventOffset) - (this_round ? 0 : layout().size);
  const std::int32_t end = next_used_.index;
  return place < end && place >= end - static_cast<std::int32_t>(count);
}

void PackedRing::write_device_event(std::uint32_t event) {
  device_event_now_ = event;
  field<std::uint32_t>(device_event_, 0).store(event, std::memory_order_seq_cst);
}

bool PackedRing::enable_kicks() {
  // The store is the full barrier before the look at the next descriptor: else a kick could be missed.
  if (layout().event_idx) {
    write_device_event(next_available_.index | (next_available_.wrap ? kEventWrap : 0) |
                       kEventDescriptor << kEventFlagsShift);
  } else {
    write_device_event(kEventEnable << kEventFlagsShift);
  }
  return available_flags(std::memory_order_seq_cst).has_value();
}

void PackedRing::disable_kicks() {
  constexpr std::uint32_t kDisabled = kEventDisable << kEventFlagsShift;
  if (device_event_now_ != kDisabled) write_device_event(kDisabled);
}

QueuePosition PackedRing::position() const {
  return {.next_available = next_available_.index,
          .next_used = next_used_.index,
          .available_wrap = next_available_.wrap,
          .used_wrap = next_used_.wrap};
}

Result<void> PackedRing::set_position(const QueuePosition& position) {
  const bool same_round = position.available_wrap == position.used_wrap;
  const bool ahead = position.next_available >= position.next_used;
  // What is taken is at most one round ahead of what is used.
  const bool possible = same_round ? ahead : position.next_available <= position.next_used;
  if (position.next_available >= layout().size || position.next_used >= layout().size || !possible) {
    return fail(fmt::format("queue position {} taken, {} used: impossible in a packed queue of {}",
                            position.next_available, position.next_used, layout().size));
  }
  next_available_ = {position.next_available, position.available_wrap};
  next_used_ = {position.next_used, position.used_wrap};
  unsignalled_ = 0;
  all_returned();
  return {};
}

}  // namespace balloon::vmm
