// SPDX-License-Identifier: Apache-2.0
// The one way to write to the file of a qcow2 image. It knows which clusters hold the image's own tables:
// those are never data, whatever the tables themselves say. A forged image could otherwise have its guest
// write the header, and so name a file of the host as its backing file; or read of its tables what is not
// the guest's to know.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "vmm/devices/block/disk_file.h"

namespace balloon::vmm {

enum class Qcow2Table : std::uint8_t {
  header,
  l1,
  l2,
  refcount_table,
  refcount_block,
  snapshot_table,
  snapshot_l1,
};
std::string_view name(Qcow2Table table);

class Qcow2File {
 public:
  /// Clusters of the file that hold a table.
  struct Range {
    std::uint64_t first = 0;
    std::uint32_t count = 1;
    Qcow2Table table = Qcow2Table::header;
    std::uint64_t end() const { return first + count; }
  };

  Qcow2File(DiskFile file, std::uint32_t cluster_bits)
      : file_(std::move(file)), cluster_bits_(cluster_bits) {}

  /// For reading, and for what it is.
  const DiskFile& disk() const { return file_; }
  DiskFile& disk() { return file_; }

  /// The clusters hold tables from now on. Fails, with all as it was, when some hold one already.
  Result<void> claim(std::vector<Range> ranges);
  /// The same for a file that is only read, and may be damaged: what some hold already is theirs still.
  void claim_rest(std::vector<Range> ranges);
  /// The table that begins at this cluster is no longer in use.
  void drop(std::uint64_t first);
  bool is_table(std::uint64_t cluster) const { return find(cluster, cluster + 1) != nullptr; }
  std::span<const Range> tables() const { return tables_; }

  /// Fails when some of the range belongs to a table: before it is read or written as data, or freed.
  Result<void> check_data(std::uint64_t offset, std::uint64_t size) const;

  Result<void> write_data(std::uint64_t offset, std::span<const std::byte> from);
  /// Within one table.
  Result<void> write_table(std::uint64_t offset, std::span<const std::byte> from);
  /// Gives the host back what lies in the range, as far as it can. Of data.
  Result<void> punch(std::uint64_t offset, std::uint64_t size) const;

 private:
  /// The first table that touches the clusters [first, end).
  const Range* find(std::uint64_t first, std::uint64_t end) const;

  DiskFile file_;
  std::uint32_t cluster_bits_;
  std::vector<Range> tables_;  ///< in the order of the file; no two touch the same cluster
};

}  // namespace balloon::vmm
