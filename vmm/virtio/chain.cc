// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/chain.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vmm/virtio/ring.h"

namespace balloon::vmm {
namespace {

std::uint64_t total(std::span<const ChainBuffer> buffers) {
  std::uint64_t sum = 0;  // a ring takes no chain of more than 4 GiB
  for (const ChainBuffer& buffer : buffers) sum += buffer.host.size();
  return sum;
}

/// Calls `each` with the host bytes of [offset, offset + size) of the buffers, in order; returns how many
/// there were.
template <typename Each>
std::size_t for_bytes(std::span<const ChainBuffer> buffers, std::uint64_t offset, std::size_t size,
                      Each each) {
  std::size_t done = 0;
  for (const ChainBuffer& buffer : buffers) {
    if (done == size) break;
    if (offset >= buffer.host.size()) {
      offset -= buffer.host.size();
      continue;
    }
    const std::span<std::byte> part =
        buffer.host.subspan(offset, std::min(buffer.host.size() - offset, size - done));
    each(part, done);
    done += part.size();
    offset = 0;
  }
  return done;
}

}  // namespace

Chain::Chain(Chain&& other) noexcept
    : ring_(std::exchange(other.ring_, nullptr)),
      token_(other.token_),
      readable_(std::move(other.readable_)),
      writable_(std::move(other.writable_)) {}

Chain::~Chain() {
  if (ring_ != nullptr) ring_->put(*this, 0);
}

std::uint64_t Chain::readable_size() const { return total(readable_); }

std::uint64_t Chain::writable_size() const { return total(writable_); }

std::size_t Chain::read(std::uint64_t offset, std::span<std::byte> into) const {
  return for_bytes(readable_, offset, into.size(), [&](std::span<std::byte> part, std::size_t done) {
    std::memcpy(into.data() + done, part.data(), part.size());
  });
}

std::size_t Chain::write(std::uint64_t offset, std::span<const std::byte> from) const {
  return for_bytes(writable_, offset, from.size(), [&](std::span<std::byte> part, std::size_t done) {
    std::memcpy(part.data(), from.data() + done, part.size());
  });
}

}  // namespace balloon::vmm
