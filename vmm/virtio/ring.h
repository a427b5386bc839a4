// SPDX-License-Identifier: Apache-2.0
// What the two kinds of rings have in common: which buffers a chain may have, and how many chains may be out.
// Devices use VirtQueue (queue.h). All guest-controlled fields are read once, copied, then validated.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/chain.h"

namespace balloon::vmm {

/// Where a queue's parts lie and what was negotiated for it: set by the transport, frozen at DRIVER_OK.
struct QueueLayout {
  std::uint16_t size = 0;        ///< 1 to 32768; a power of two in a split ring
  GuestAddress descriptors = 0;  ///< descriptor table; packed: the descriptor ring
  GuestAddress available = 0;    ///< available ring; packed: the driver's event suppression
  GuestAddress used = 0;         ///< used ring; packed: the device's event suppression
  bool event_idx = false;
  bool indirect = false;
  bool packed = false;
};

/// How far a queue has come: all that its life has beyond guest memory.
struct QueuePosition {
  std::uint16_t next_available = 0;
  std::uint16_t next_used = 0;
  // Packed rings: the wrap counters (virtio 1.2, 2.8.1), both 1 in a new queue.
  bool available_wrap = true;
  bool used_wrap = true;
  friend bool operator==(const QueuePosition&, const QueuePosition&) = default;
  /// The position at which chains that were taken, but not returned, are available again. Right for queues
  /// whose chains are returned in the order in which they were taken.
  QueuePosition rewound() const { return {next_used, next_used, used_wrap, used_wrap}; }
};

// Rings are little-endian, as this host is.
static_assert(std::endian::native == std::endian::little);

/// Descriptor flags of both kinds of rings (virtio 1.2, 2.7.5 and 2.8.5).
inline constexpr std::uint16_t kDescriptorNext = 1;
inline constexpr std::uint16_t kDescriptorWrite = 2;
inline constexpr std::uint16_t kDescriptorIndirect = 4;
inline constexpr std::uint64_t kDescriptorSize = 16;
inline constexpr std::uint64_t kDescriptorsAlign = 16;
inline constexpr std::uint16_t kMaxQueueSize = 32768;

class Ring {
 public:
  virtual ~Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // As in VirtQueue.
  virtual Result<std::optional<Chain>> take() = 0;
  virtual bool should_interrupt() = 0;
  virtual bool enable_kicks() = 0;
  virtual void disable_kicks() = 0;
  virtual QueuePosition position() const = 0;
  virtual Result<void> set_position(const QueuePosition& position) = 0;
  /// Returns a chain and leaves it empty, its vectors to be used again.
  void put(Chain& chain, std::uint32_t written);
  /// Returns several so that the driver sees all of them or none.
  void put_all(std::span<Chain> chains, std::span<const std::uint32_t> written);
  static void forget(Chain& chain) { chain.ring_ = nullptr; }

  const QueueLayout& layout() const { return layout_; }

 protected:
  struct Descriptor {
    GuestAddress address;
    std::uint32_t length;
    std::uint16_t flags;
  };

  Ring(const GuestMemory& memory, const QueueLayout& layout) : memory_(memory), layout_(layout) {}
  struct Used {
    ChainToken token;
    std::uint32_t written;
  };
  /// The driver sees all of them or none.
  virtual void write_used(std::span<const Used> used) = 0;

  /// A chain to be filled by add(), then handed to the device by give(), or dropped by refuse().
  Chain blank();
  /// Adds one buffer, checked.
  Result<void> add(Chain& chain, const Descriptor& descriptor) const;
  /// The host bytes of an indirect table, its place and length checked.
  Result<std::span<const std::byte>> indirect_table(const Descriptor& descriptor) const;
  /// A broken guest could make chains available for ever that the device never gets done with
  /// (CVE-2016-5403): no more descriptors than the queue has may be out.
  Result<std::optional<Chain>> give(Chain chain, ChainToken token);
  std::unexpected<Error> refuse(Chain& chain, std::string_view what, const Error& why);
  /// No chain is out.
  void all_returned() { out_ = 0; }

  /// The part of guest RAM that a ring's structure lies in.
  static Result<std::span<std::byte>> part(const GuestMemory& memory, const char* what, GuestAddress address,
                                           std::uint64_t size, std::uint64_t align);
  /// The one read of a guest-controlled value: the barrier keeps the compiler from reading it again after the
  /// checks.
  template <typename T>
  static T copy_once(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return value;
  }
  /// A ring field that the guest reads or writes at the same time.
  template <typename T>
  static std::atomic_ref<T> field(std::span<std::byte> ring, std::size_t offset) {
    return std::atomic_ref(*reinterpret_cast<T*>(ring.data() + offset));
  }

 private:
  void recycle(Chain& chain);

  const GuestMemory& memory_;
  const QueueLayout layout_;
  std::uint32_t out_ = 0;                        ///< descriptors of chains that the device has
  std::vector<Used> used_;                       ///< of put_all()
  std::vector<std::vector<ChainBuffer>> spare_;  ///< vectors of returned chains, to save the allocations
};

}  // namespace balloon::vmm
