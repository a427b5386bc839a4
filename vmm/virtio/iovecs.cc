// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/iovecs.h"

#include <algorithm>

namespace balloon::vmm {

void to_iovecs(std::span<const ChainBuffer> buffers, std::uint64_t offset, std::uint64_t size,
               std::vector<iovec>& iovecs) {
  iovecs.clear();
  for (const ChainBuffer& buffer : buffers) {
    if (size == 0) break;
    if (offset >= buffer.host.size()) {
      offset -= buffer.host.size();
      continue;
    }
    const std::span<std::byte> part =
        buffer.host.subspan(offset).first(std::min(size, buffer.host.size() - offset));
    iovecs.push_back({.iov_base = part.data(), .iov_len = part.size()});
    size -= part.size();
    offset = 0;
  }
}

std::uint64_t total(std::span<const iovec> buffers) {
  std::uint64_t sum = 0;
  for (const iovec& buffer : buffers) sum += buffer.iov_len;
  return sum;
}

std::vector<iovec> slice(std::span<const iovec> buffers, std::uint64_t offset, std::uint64_t size) {
  std::vector<iovec> parts;
  for (const iovec& buffer : buffers) {
    if (size == 0) break;
    if (offset >= buffer.iov_len) {
      offset -= buffer.iov_len;
      continue;
    }
    const std::size_t part = std::min<std::size_t>(buffer.iov_len - offset, size);
    parts.push_back({.iov_base = static_cast<std::byte*>(buffer.iov_base) + offset, .iov_len = part});
    size -= part;
    offset = 0;
  }
  return parts;
}

void fill_zeros(std::span<const iovec> buffers) {
  for_bytes(buffers, [](std::span<std::byte> part, std::size_t) { std::ranges::fill(part, std::byte{0}); });
}

std::span<iovec> drop_front(std::span<iovec> iovecs, std::uint64_t size) {
  while (!iovecs.empty() && size >= iovecs.front().iov_len) {
    size -= iovecs.front().iov_len;
    iovecs = iovecs.subspan(1);
  }
  if (size > 0 && !iovecs.empty()) {
    iovecs.front().iov_base = static_cast<std::byte*>(iovecs.front().iov_base) + size;
    iovecs.front().iov_len -= size;
  }
  return iovecs;
}

}  // namespace balloon::vmm
