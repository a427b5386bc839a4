// SPDX-License-Identifier: Apache-2.0
// Images of qcow2 for the fuzz targets to begin with, in clusters of 512 bytes.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "tests/fuzz/fuzz.h"

namespace balloon::vmm::fuzz {

inline constexpr std::uint64_t kCluster = 512;
inline constexpr std::uint64_t kCopied = 1ULL << 63;  ///< of a table's entry: nobody else refers to it

inline void put(Bytes8& image, std::uint64_t at, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    image[at + i] = static_cast<std::uint8_t>(value >> 8 * (size - 1 - i));
}

/// Header, refcounts and an L1 table without entries, for a disk of `size`.
struct EmptyImage {
  std::uint64_t refcount_blocks = 1;
  std::uint64_t l1 = 3;  ///< the cluster where it begins
  Bytes8 bytes{};
};
inline EmptyImage empty_image(std::uint32_t version, std::uint64_t size, std::uint64_t clusters) {
  constexpr std::uint64_t kCountsOfBlock = kCluster / 2, kEntriesOfTable = kCluster / 8;
  EmptyImage image{.refcount_blocks = (clusters + kCountsOfBlock - 1) / kCountsOfBlock};
  image.l1 = 2 + image.refcount_blocks;
  Bytes8& bytes = image.bytes;
  bytes.resize(clusters * kCluster);
  put(bytes, 0, 0x514649fb, 4);
  put(bytes, 4, version, 4);
  put(bytes, 20, 9, 4);  // cluster bits
  put(bytes, 24, size, 8);
  put(bytes, 36, size / kCluster / kEntriesOfTable, 4);  // L1 entries
  put(bytes, 40, image.l1 * kCluster, 8);                // L1 table
  put(bytes, 48, kCluster, 8);                           // refcount table
  put(bytes, 56, 1, 4);                                  // its clusters
  put(bytes, 96, 4, 4);                                  // refcount order
  put(bytes, 100, 104, 4);                               // header length
  for (std::uint64_t block = 0; block < image.refcount_blocks; ++block)
    put(bytes, kCluster + 8 * block, (2 + block) * kCluster, 8);
  for (std::uint64_t cluster = 0; cluster < clusters; ++cluster) put(bytes, 2 * kCluster + 2 * cluster, 1, 2);
  return image;
}

/// Of a disk of 8 MiB every second cluster has data: as many pieces as there can be.
inline Bytes8 fragmented_image() {
  constexpr std::uint64_t kSize = (8 * kMiB).count(), kTables = kSize / kCluster / (kCluster / 8);
  constexpr std::uint64_t kL1Clusters = kTables * 8 / kCluster, kData = kSize / kCluster / 2;
  constexpr std::uint64_t kRefcountBlocks = 34;
  EmptyImage image = empty_image(3, kSize, 2 + kRefcountBlocks + kL1Clusters + kTables + kData);
  require(image.refcount_blocks == kRefcountBlocks, "the image's refcounts");
  const std::uint64_t tables = (image.l1 + kL1Clusters) * kCluster, data = tables + kTables * kCluster;
  for (std::uint64_t table = 0; table < kTables; ++table)
    put(image.bytes, image.l1 * kCluster + 8 * table, (tables + table * kCluster) | kCopied, 8);
  for (std::uint64_t each = 0; each < kData; ++each)
    put(image.bytes, tables + 16 * each, (data + each * kCluster) | kCopied, 8);
  return image.bytes;
}

/// In clusters of 64 KiB, of which an input has the first 512 bytes (qcow2_fuzz.h): a disk of 1 MiB, whose
/// first cluster has data.
inline Bytes8 large_clusters_image() {
  constexpr std::uint64_t kLarge = 65536, kL1 = 3, kL2 = 4, kData = 5;
  Bytes8 bytes = empty_image(3, (32 * kKiB).count(), kData + 1).bytes;
  put(bytes, 20, 16, 4);  // cluster bits
  put(bytes, 24, kMiB.count(), 8);
  put(bytes, 40, kL1 * kLarge, 8);
  put(bytes, 48, kLarge, 8);
  put(bytes, kCluster, 2 * kLarge, 8);
  put(bytes, kL1 * kCluster, kL2 * kLarge | kCopied, 8);
  put(bytes, kL2 * kCluster, kData * kLarge | kCopied, 8);
  return bytes;
}

/// All of its refcount blocks are the same one, by which nothing is free: 3,584 times 32,768 clusters that a
/// search for room could look at.
inline Bytes8 aliased_image() {
  constexpr std::uint64_t kLarge = 4096, kTableClusters = 7, kBlock = 1 + kTableClusters, kL1 = kBlock + 1;
  Bytes8 bytes((kL1 + 1) * kLarge);
  put(bytes, 0, 0x514649fb, 4);
  put(bytes, 4, 3, 4);
  put(bytes, 20, 12, 4);  // cluster bits
  put(bytes, 24, (64 * kKiB).count(), 8);
  put(bytes, 36, 1, 4);  // L1 entries
  put(bytes, 40, kL1 * kLarge, 8);
  put(bytes, 48, kLarge, 8);  // refcount table
  put(bytes, 56, kTableClusters, 4);
  put(bytes, 96, 0, 4);  // refcount order: a bit each
  put(bytes, 100, 104, 4);
  for (std::uint64_t at = kLarge; at < kBlock * kLarge; at += 8) put(bytes, at, kBlock * kLarge, 8);
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(kBlock * kLarge), kLarge, std::uint8_t{0xff});
  return bytes;
}

}  // namespace balloon::vmm::fuzz
