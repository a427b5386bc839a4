// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/request.h"

#include <array>

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

BlockStatus read_segments(const Chain& chain, BlockType type, std::uint64_t capacity, DiskRequest& request) {
  static_assert(sizeof(BlockSegment) == 16);
  const std::uint64_t size = chain.readable_size() - sizeof(BlockHeader);
  if (size == 0 || size % sizeof(BlockSegment) != 0 || size / sizeof(BlockSegment) > kMaxSegments) {
    return BlockStatus::io_error;
  }
  std::array<BlockSegment, kMaxSegments> copy;
  const auto segments = std::span(copy).first(size / sizeof(BlockSegment));
  chain.read(sizeof(BlockHeader), std::as_writable_bytes(segments));
  const bool discard = type == BlockType::discard;
  request.kind = discard ? DiskRequest::Kind::discard : DiskRequest::Kind::zero;
  request.ranges.clear();
  request.may_unmap = true;
  for (const BlockSegment& segment : segments) {
    // 5.2.6.2: unknown flags are unsupported, and so is "unmap" of a discard.
    if ((segment.flags & ~(discard ? 0U : BlockSegment::kUnmap)) != 0) return BlockStatus::unsupported;
    const std::uint64_t bytes = segment.sectors * kSectorSize;
    if (bytes > (discard ? Disk::kMaxDiscard : Disk::kMaxZero)) return BlockStatus::io_error;
    const auto offset = image_offset(segment.sector, bytes, capacity);
    if (!offset) return BlockStatus::io_error;
    request.ranges.push_back({.offset = *offset, .size = bytes});
    // One request, one way: it keeps its place when any of its segments shall.
    request.may_unmap = request.may_unmap && (segment.flags & BlockSegment::kUnmap) != 0;
  }
  return BlockStatus::ok;
}

}  // namespace balloon::vmm
