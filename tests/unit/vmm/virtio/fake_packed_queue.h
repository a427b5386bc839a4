// SPDX-License-Identifier: Apache-2.0
// The driver's side of a packed virtqueue, for tests. What it writes is not checked, so that it can also play
// a broken or hostile driver.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "tests/unit/vmm/address_literals.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm::test {

/// A descriptor of a packed ring or of its indirect tables.
struct PackedDescriptor {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint16_t id = 0;
  std::uint16_t flags = 0;
};
inline constexpr std::uint16_t kPackedAvailable = 1U << 7;
inline constexpr std::uint16_t kPackedUsed = 1U << 15;

struct PackedUsed {
  std::uint16_t id = 0;
  std::uint32_t length = 0;
  bool written = false;
};

class FakePackedQueue {
 public:
  static constexpr std::uint64_t kRings = 64_KiB;

  FakePackedQueue(const GuestMemory& memory, GuestAddress base, std::uint16_t size, bool event_idx = true,
                  bool indirect = true)
      : memory_(memory), arena_(base + kRings), slots_of_id_(1 << 16) {
    layout_ = {.size = size,
               .descriptors = base,
               .available = base + 0xe000,
               .used = base + 0xf000,
               .event_idx = event_idx,
               .indirect = indirect,
               .packed = true};
  }

  const QueueLayout& layout() const { return layout_; }
  const GuestMemory& memory() const { return memory_; }

  GuestAddress allocate(std::uint64_t size) {
    const GuestAddress address = arena_;
    arena_ = (arena_ + size + 15) / 16 * 16;
    return address;
  }
  GuestAddress allocate(std::span<const std::byte> bytes) {
    const GuestAddress address = allocate(bytes.size());
    memory_.write(address, bytes);
    return address;
  }

  /// Makes a chain available as a driver must: the head's flags last.
  void submit(std::vector<PackedDescriptor> chain, std::uint16_t id) {
    const std::uint16_t head = next_;
    std::uint16_t head_flags = 0;
    for (std::size_t i = 0; i < chain.size(); ++i) {
      PackedDescriptor& descriptor = chain[i];
      if (i + 1 < chain.size()) descriptor.flags |= 1;
      descriptor.id = id;
      descriptor.flags |= wrap_ ? kPackedAvailable : kPackedUsed;
      if (i == 0) {
        head_flags = descriptor.flags;
        memory_.write(place(next_), std::as_bytes(std::span(&descriptor, 1)).first(14));  // all but the flags
      } else {
        memory_.write(place(next_), descriptor);
      }
      if (++next_ == layout_.size) next_ = 0, wrap_ = !wrap_;
    }
    slots_of_id_[id] = static_cast<std::uint16_t>(chain.size());
    flags_of(head).store(head_flags, std::memory_order_seq_cst);
  }
  void submit_indirect(const std::vector<PackedDescriptor>& table, std::uint16_t id) {
    const GuestAddress at = allocate(table.size() * 16);
    for (std::size_t i = 0; i < table.size(); ++i) memory_.write(at + i * 16, table[i]);
    submit({{at, static_cast<std::uint32_t>(table.size() * 16), 0, 4}}, id);
  }
  /// A descriptor as it is, flags and all.
  void set_raw(std::uint16_t index, const PackedDescriptor& descriptor) {
    memory_.write(place(index), descriptor);
  }
  PackedDescriptor raw(std::uint16_t index) const { return *memory_.read<PackedDescriptor>(place(index)); }

  /// The next chain that the device returned.
  std::optional<PackedUsed> pop_used() {
    const std::uint16_t flags = flags_of(used_).load(std::memory_order_acquire);
    const bool available = (flags & kPackedAvailable) != 0;
    const bool used = (flags & kPackedUsed) != 0;
    if (available != used || used != used_wrap_) return std::nullopt;
    const PackedDescriptor descriptor = raw(used_);
    used_ = static_cast<std::uint16_t>(used_ + slots_of_id_[descriptor.id]);
    if (used_ >= layout_.size)
      used_ = static_cast<std::uint16_t>(used_ - layout_.size), used_wrap_ = !used_wrap_;
    return PackedUsed{descriptor.id, descriptor.length, (flags & 2) != 0};
  }

  std::uint16_t next() const { return next_; }
  bool wrap() const { return wrap_; }
  /// What the driver wants: 0 every interrupt, 1 none, 2 when the device has used the given place.
  void set_driver_event(std::uint16_t flags, std::uint16_t offset = 0, bool wrap = true) {
    word(layout_.available).store(offset | (wrap ? 0x8000U : 0U) | std::uint32_t{flags} << 16);
  }
  std::uint32_t device_event() const { return word(layout_.used).load(); }

 private:
  GuestAddress place(std::uint16_t index) const { return layout_.descriptors + index * 16ULL; }
  std::atomic_ref<std::uint16_t> flags_of(std::uint16_t index) const {
    return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(memory_.at(place(index) + 14, 2)->data()));
  }
  std::atomic_ref<std::uint32_t> word(GuestAddress address) const {
    return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(memory_.at(address, 4)->data()));
  }

  const GuestMemory& memory_;
  QueueLayout layout_;
  GuestAddress arena_;
  std::vector<std::uint16_t> slots_of_id_;
  std::uint16_t next_ = 0;
  bool wrap_ = true;
  std::uint16_t used_ = 0;
  bool used_wrap_ = true;
};

}  // namespace balloon::vmm::test
