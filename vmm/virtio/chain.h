// SPDX-License-Identifier: Apache-2.0
// A descriptor chain that a device took from a queue. It does not tell which kind of ring it came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

class Ring;

/// One buffer of a chain: checked to lie in guest RAM.
struct ChainBuffer {
  GuestAddress address = 0;
  std::span<std::byte> host;
};

/// What a ring needs to know of a chain to return it.
struct ChainToken {
  std::uint16_t id = 0;     ///< split ring: the head's index; packed ring: the buffer id
  std::uint16_t slots = 1;  ///< how many descriptors of a packed ring it takes
};

/// A descriptor chain taken from a queue: device-readable buffers first, then device-writable ones.
/// Move-only; give it back with VirtQueue::put(), exactly once. Dropping it unreturned gives it back with a
/// used length of 0. It must not outlive its queue.
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
  friend class Ring;
  explicit Chain(Ring& ring) : ring_(&ring) {}
  Ring* ring_;
  ChainToken token_;
  std::uint64_t bytes_ = 0;
  std::vector<ChainBuffer> readable_;
  std::vector<ChainBuffer> writable_;
};

}  // namespace balloon::vmm
