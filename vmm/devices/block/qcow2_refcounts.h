// How often each cluster of a qcow2 image is referenced, and where free ones are.
#pragma once

#include <cstdint>
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
  Qcow2Refcounts(DiskFile& file, Qcow2Header& header);
  /// Reads the table; checks what it says.
  Result<void> load();

  /// Finds up to `count` (at least one) free clusters in a row, and counts one reference to each.
  Result<Run> allocate(std::uint64_t count);
  /// Takes one reference back; how many are left.
  Result<std::uint64_t> release(std::uint64_t cluster);
  Result<std::uint64_t> get(std::uint64_t cluster);

  /// Whether a cluster belongs to the table of blocks.
  bool in_table(std::uint64_t cluster) const;

  // Counts that are too high are no more than lost room. So added references must be written before what
  // refers to the clusters, and taken ones after it; the caller sees to that.
  bool has_changes() const { return blocks_.has_changes(); }
  Result<void> write_changes() { return blocks_.write_changes(); }

 private:
  Result<void> set(std::uint64_t cluster, std::uint64_t count);
  /// Makes the block that counts `cluster`, if there is none yet.
  Result<void> ensure_block(std::uint64_t cluster);
  Result<void> grow_table();
  Result<void> write_table_entry(std::uint64_t index);
  std::uint64_t place(std::uint64_t cluster) const;

  DiskFile& file_;
  Qcow2Header& header_;
  MetadataCache blocks_;
  std::vector<std::uint64_t> table_;  ///< offset of each block; 0: it is not there, all its counts are 0
  std::uint64_t next_free_ = 0;       ///< none below is free
};

}  // namespace balloon::vmm
