#include "vmm/devices/block/request.h"

#include <span>

namespace balloon::vmm {

std::optional<BlockHeader> read_header(const Chain& chain) {
  static_assert(sizeof(BlockHeader) == 16);
  BlockHeader header;
  if (chain.read(0, std::as_writable_bytes(std::span(&header, 1))) != sizeof header) return std::nullopt;
  return header;
}

std::optional<std::uint64_t> image_offset(std::uint64_t sector, std::uint64_t size, std::uint64_t capacity) {
  if (size % kSectorSize != 0) return std::nullopt;
  // Compared in sectors, before any multiplication: 2^55 sectors would wrap.
  if (sector > capacity || size / kSectorSize > capacity - sector) return std::nullopt;
  return sector * kSectorSize;
}

}  // namespace balloon::vmm
