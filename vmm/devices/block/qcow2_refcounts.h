// SPDX-License-Identifier: Apache-2.0
// How often each cluster of a qcow2 image is referenced, and where free ones are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "vmm/devices/block/metadata_cache.h"
#include "vmm/devices/block/qcow2_format.h"

namespace balloon::vmm {

class Qcow2Refcounts {
 public:
  /// A run of clusters of the image's file.
  struct Run {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };

  /// `header` is kept up to date when the table moves.
  Qcow2Refcounts(Qcow2File& file, Qcow2Header& header);
  /// Reads the table.
  Result<void> load();
  /// Fails when what the table says cannot be: before the image is written to.
  Result<void> check() const;
  /// The clusters of the table and of its blocks.
  std::vector<Qcow2File::Range> tables() const;

  /// Finds up to `count` (at least one) free clusters in a row, and counts one reference to each. Looks at no
  /// more than kMostLooked counts within the file: room that lies further on is found by later calls, and
  /// meanwhile the file grows. Never a cluster that holds a table, whatever its count says.
  Result<Run> allocate(std::uint64_t count);
  /// Takes one reference back; how many are left.
  Result<std::uint64_t> release(std::uint64_t cluster);
  Result<std::uint64_t> get(std::uint64_t cluster);

  // Counts that are too high are no more than lost room. So added references must be written before what
  // refers to the clusters, and taken ones after it; the caller sees to that.
  bool has_changes() const { return blocks_.has_changes(); }
  Result<void> write_changes() { return blocks_.write_changes(); }

 private:
  /// Two blocks of usual images; looked through in some 2 ms.
  static constexpr std::uint64_t kMostLooked = std::uint64_t{64} * 1024;

  Result<void> set(std::uint64_t cluster, std::uint64_t count);
  Result<bool> is_free(std::uint64_t cluster);
  /// Makes the block that counts `cluster`, if there is none yet.
  Result<void> ensure_block(std::uint64_t cluster);
  Result<void> make_block(std::uint64_t cluster);
  Result<void> grow_table();
  Result<void> write_table(std::span<const std::uint64_t> table, std::uint64_t first, std::uint32_t clusters,
                           std::uint32_t blocks);
  std::uint64_t place(std::uint64_t cluster) const;

  Qcow2File& file_;
  Qcow2Header& header_;
  MetadataCache blocks_;
  std::vector<std::uint64_t> table_;  ///< offset of each block; 0: it is not there, all its counts are 0
  std::uint64_t next_free_ = 0;       ///< none below is free
  std::uint64_t tail_;                ///< from here on nothing lies in the file
};

}  // namespace balloon::vmm
