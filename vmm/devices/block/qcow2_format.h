// SPDX-License-Identifier: Apache-2.0
// The qcow2 format as far as it can be read without I/O (QEMU's docs/interop/qcow2.txt). Pure. Everything in
// an image is checked before it is believed: images come from strangers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/error.h"

namespace balloon::vmm {

/// What the header says, checked: sizes are sane, tables lie at cluster borders, and nothing is asked that
/// this reader does not know.
struct Qcow2Header {
  std::uint32_t version = 3;
  std::uint32_t cluster_bits = 16;
  std::uint64_t size = 0;
  std::uint32_t l1_entries = 0;
  std::uint64_t l1_offset = 0;
  std::uint64_t refcount_table_offset = 0;
  std::uint32_t refcount_table_clusters = 0;
  std::uint32_t refcount_order = 4;
  std::uint32_t snapshots = 0;
  std::uint64_t snapshots_offset = 0;
  bool dirty = false;    ///< reference counts may be wrong: not to be written to
  bool corrupt = false;  ///< anything may be wrong: not to be written to
  std::uint64_t autoclear_features = 0;
  std::string backing_file{};    ///< as it stands in the image; empty: none
  std::string backing_format{};  ///< "raw", "qcow2", …; empty: not recorded

  std::uint64_t cluster_size() const { return 1ULL << cluster_bits; }
  /// Entries of an L2 table.
  std::uint64_t l2_entries() const { return cluster_size() / sizeof(std::uint64_t); }
  /// Reference counts in a block of them.
  std::uint64_t refcounts_per_block() const { return cluster_size() * 8 >> refcount_order; }
};

namespace qcow2 {
inline constexpr std::size_t kHeaderSize = 104;  ///< of version 3; version 2 has 72 bytes
inline constexpr std::uint32_t kMinClusterBits = 9;
inline constexpr std::uint32_t kMaxClusterBits = 21;
/// QEMU's own limits: of an L1 table, and of a table of refcount blocks.
inline constexpr std::uint64_t kMaxL1Size = (32 * kMiB).count();
inline constexpr std::uint64_t kMaxRefcountTable = (8 * kMiB).count();

// Places in the header that are written.
inline constexpr std::uint64_t kRefcountTablePlace = 48;  ///< offset (8 bytes), then clusters (4)
inline constexpr std::uint64_t kAutoclearPlace = 88;

// Entries of L1 and L2 tables.
inline constexpr std::uint64_t kCopied = 1ULL << 63;  ///< referenced once: may be written in place
inline constexpr std::uint64_t kCompressed = 1ULL << 62;
inline constexpr std::uint64_t kZero = 1;  ///< version 3: reads as zeros, whether it has a place or not
inline constexpr std::uint64_t kOffsetMask = 0x00ff'ffff'ffff'fe00;
}  // namespace qcow2

/// What an L2 entry says of a cluster.
struct Qcow2Cluster {
  enum class Kind { unallocated, zero, data, compressed };
  Kind kind = Kind::unallocated;
  bool copied = false;
  std::uint64_t offset = 0;  ///< of the data; zero: of the place that is kept for it, 0 if none
  std::uint64_t compressed_size = 0;

  /// It has a place of its own that may be written.
  bool in_place() const { return kind == Kind::data && copied; }
};

std::uint64_t load_be64(const std::byte* from);
std::uint32_t load_be32(const std::byte* from);
void store_be64(std::byte* to, std::uint64_t value);
void store_be32(std::byte* to, std::uint32_t value);

bool looks_like_qcow2(std::span<const std::byte> start);

/// The cluster size that a header claims, to know how much of the image to read for parse_qcow2_header.
Result<std::uint32_t> parse_qcow2_cluster_bits(std::span<const std::byte> start);

/// `start`: the first cluster of the image, or all of a shorter file.
Result<Qcow2Header> parse_qcow2_header(std::span<const std::byte> start);

/// Fails when the entry cannot be.
Result<Qcow2Cluster> parse_l2_entry(std::uint64_t entry, const Qcow2Header& header);

}  // namespace balloon::vmm
