// SPDX-License-Identifier: Apache-2.0
// Parts of a chain's buffers, and of other memory, for preadv(), pwritev() and their like.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/virtio/queue.h"

namespace balloon::vmm {

/// Makes `iovecs` the bytes [offset, offset + size) of the buffers, or what of it there is.
void to_iovecs(std::span<const ChainBuffer> buffers, std::uint64_t offset, std::uint64_t size,
               std::vector<iovec>& iovecs);

std::uint64_t total(std::span<const iovec> buffers);

/// The bytes [offset, offset + size) of the buffers, or what of it there is.
std::vector<iovec> slice(std::span<const iovec> buffers, std::uint64_t offset, std::uint64_t size);

/// Calls `each` with the bytes of each buffer, and how many come before them.
template <typename Each>
void for_bytes(std::span<const iovec> buffers, Each each) {
  std::size_t before = 0;
  for (const iovec& buffer : buffers) {
    each(std::span(static_cast<std::byte*>(buffer.iov_base), buffer.iov_len), before);
    before += buffer.iov_len;
  }
}

void fill_zeros(std::span<const iovec> buffers);

/// Drops the first `size` bytes, which a short transfer has done.
std::span<iovec> drop_front(std::span<iovec> iovecs, std::uint64_t size);

}  // namespace balloon::vmm
