// Split virtqueue, device side (virtio 1.2, 2.7). All guest-controlled fields are read once, copied, then
// validated.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

class VirtQueue;

/// One buffer of a chain: checked to lie in guest RAM.
struct ChainBuffer {
  GuestAddress address = 0;
  std::span<std::byte> host;
};

/// A descriptor chain taken from a queue: device-readable buffers first, then device-writable ones.
/// Move-only; give it back with VirtQueue::put(), exactly once. Dropping it unreturned gives it back with a
/// used length of 0. It must not outlive its queue, nor may the queue move meanwhile.
class Chain {
 public:
  Chain(Chain&&) noexcept;
  Chain& operator=(Chain&&) = delete;
  ~Chain();

  std::span<const ChainBuffer> readable() const { return readable_; }
  std::span<const ChainBuffer> writable() const { return writable_; }
  std::uint64_t readable_size() const;
  std::uint64_t writable_size() const;
  /// Copies up to into.size() readable bytes from `offset` on, across buffers; returns how many.
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const;
  /// Copies to the writable buffers from `offset` on; returns how many bytes fitted.
  std::size_t write(std::uint64_t offset, std::span<const std::byte> from) const;

 private:
  friend class VirtQueue;
  Chain(VirtQueue& queue, std::uint16_t head);
  VirtQueue* queue_;
  std::uint16_t head_;
  std::vector<ChainBuffer> readable_;
  std::vector<ChainBuffer> writable_;
};

/// Where a queue's parts lie and what was negotiated for it: set by the transport, frozen at DRIVER_OK.
struct QueueLayout {
  std::uint16_t size = 0;  ///< power of two, 1 to 32768
  GuestAddress descriptors = 0;
  GuestAddress available = 0;
  GuestAddress used = 0;
  bool event_idx = false;
  bool indirect = false;
};

class VirtQueue {
 public:
  /// Checks that the layout is sane and lies in guest RAM, aligned as the spec asks.
  static Result<VirtQueue> create(const GuestMemory& memory, const QueueLayout& layout);

  /// The next available chain; nothing when there is none. An error means that the guest broke the rules
  /// (loop, too long, index out of range, buffer outside RAM, avail index more than the queue's size ahead):
  /// the device answers it with DeviceHost::needs_reset().
  Result<std::optional<Chain>> take();
  /// Returns a chain. `written`: bytes the device wrote to its writable part.
  void put(Chain chain, std::uint32_t written);
  /// Returns several chains that the driver sees at once or not at all (the buffers of one merged frame,
  /// 5.1.6.4); `written` has one number a chain.
  void put_all(std::span<Chain> chains, std::span<const std::uint32_t> written);
  /// Drops a chain without a word to the guest: for a reset, after which the rings are no longer ours to
  /// write.
  static void forget(Chain chain) { chain.queue_ = nullptr; }
  /// Whether the guest wants an interrupt for what was put since the last call (flags or EVENT_IDX).
  bool should_interrupt();
  /// Asks the guest for a kick with the next chain; returns true when a chain came in the meantime (look
  /// again).
  bool enable_kicks();
  /// Tells the guest that kicks are not needed while the queue is being processed.
  void disable_kicks();

  std::uint16_t size() const { return layout_.size; }
  /// For who serves the queue instead of this class (vhost).
  const QueueLayout& layout() const { return layout_; }

 private:
  friend class Chain;
  struct Descriptor;
  VirtQueue(const GuestMemory& memory, const QueueLayout& layout, std::span<std::byte> descriptors,
            std::span<std::byte> available, std::span<std::byte> used);
  Result<void> walk(Chain& chain) const;
  Result<void> add(Chain& chain, const Descriptor& descriptor) const;
  void put_head(std::uint16_t head, std::uint32_t written);
  void fill_used(std::uint16_t head, std::uint32_t written);
  void publish_used();
  void recycle(Chain& chain);

  const GuestMemory* memory_;
  QueueLayout layout_;
  // The rings, checked once to lie in RAM, which does not move. Everything in them is guest-controlled.
  std::span<std::byte> descriptors_;
  std::span<std::byte> available_;
  std::span<std::byte> used_;
  std::uint16_t next_available_ = 0;
  std::uint16_t next_used_ = 0;
  std::uint16_t signalled_used_ = 0;
  std::vector<std::vector<ChainBuffer>>
      spare_;  ///< emptied vectors of returned chains, to save the allocations
};

}  // namespace balloon::vmm
