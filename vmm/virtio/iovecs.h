// SPDX-License-Identifier: Apache-2.0
// Parts of a chain's buffers for preadv(), pwritev() and their like.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/virtio/queue.h"

namespace balloon::vmm {

/// Makes `iovecs` the bytes [offset, offset + size) of the buffers, or what of it there is.
void to_iovecs(std::span<const ChainBuffer> buffers, std::uint64_t offset, std::uint64_t size,
               std::vector<iovec>& iovecs);

/// Drops the first `size` bytes, which a short transfer has done.
std::span<iovec> drop_front(std::span<iovec> iovecs, std::uint64_t size);

}  // namespace balloon::vmm
