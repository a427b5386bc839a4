// SPDX-License-Identifier: Apache-2.0
// A virtio-blk request as the guest lays it out in a chain (virtio 1.2, 5.2.6). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/devices/block/disk.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {

inline constexpr std::uint64_t kSectorSize = 512;  ///< of the protocol, whatever the medium has

/// Request types that this device knows; any other is answered "unsupported".
enum class BlockType : std::uint32_t {
  in = 0,
  out = 1,
  flush = 4,
  get_id = 8,
  discard = 11,
  write_zeroes = 13
};

/// The status byte.
enum class BlockStatus : std::uint8_t { ok = 0, io_error = 1, unsupported = 2 };

/// The header, copied once.
struct BlockHeader {
  BlockType type;
  std::uint32_t reserved;
  std::uint64_t sector;
};

/// struct virtio_blk_discard_write_zeroes.
struct BlockSegment {
  static constexpr std::uint32_t kUnmap = 1;
  std::uint64_t sector;
  std::uint32_t sectors;
  std::uint32_t flags;
};

/// Segments of one discard or write-zeroes request: enough for Linux, few enough to be checked at once.
inline constexpr std::uint32_t kMaxSegments = 16;

/// The header of the chain; nothing when it is too short for one.
std::optional<BlockHeader> read_header(const Chain& chain);

/// Where `size` bytes from `sector` on lie in an image of `capacity` sectors; nothing when they are not whole
/// sectors or any of them lies outside.
std::optional<std::uint64_t> image_offset(std::uint64_t sector, std::uint64_t size, std::uint64_t capacity);

/// Makes a discard or write-zeroes request of the segments in `chain`; anything but `ok` is the answer to it.
BlockStatus read_segments(const Chain& chain, BlockType type, std::uint64_t capacity, DiskRequest& request);

}  // namespace balloon::vmm
