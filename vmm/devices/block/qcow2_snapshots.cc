// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/qcow2_snapshots.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace balloon::vmm {
namespace {

// QEMU's own limits (block/qcow2.h): snapshots, and bytes of one that are of a later version's making.
constexpr std::uint32_t kMaxSnapshots = 65536;
constexpr std::uint32_t kMaxExtra = 1024;
/// What a snapshot's entry has before its extra data, id and name (docs/interop/qcow2.txt, "Snapshots").
constexpr std::size_t kFixed = 40;
constexpr std::uint64_t kAlign = 8;

}  // namespace

Result<void> add_snapshot_tables(const DiskFile& file, const Qcow2Header& header,
                                 std::vector<Qcow2File::Range>& ranges) {
  if (header.snapshots == 0) return {};
  const auto damaged = [](const std::string& what) {
    return fail(
        fmt::format("it is damaged: {}; repair it with qemu-img check -r all, or open it read-only", what));
  };
  const auto add = [&](std::uint64_t offset, std::uint64_t size, Qcow2Table table) {
    ranges.push_back(
        {.first = offset >> header.cluster_bits,
         .count = static_cast<std::uint32_t>((size + header.cluster_size() - 1) >> header.cluster_bits),
         .table = table});
  };
  const auto is_place = [&](std::uint64_t offset) {
    return offset != 0 && offset % header.cluster_size() == 0 && offset <= qcow2::kOffsetMask;
  };
  if (header.snapshots > kMaxSnapshots || !is_place(header.snapshots_offset))
    return damaged(
        fmt::format("its {} snapshots at {:#x} cannot be", header.snapshots, header.snapshots_offset));
  std::uint64_t at = header.snapshots_offset;
  Result<void> done;
  for (std::uint32_t i = 0; done && i < header.snapshots; ++i) {
    std::array<std::byte, kFixed> entry{};
    done = file.read_padded(at, entry);
    const std::uint64_t l1_offset = load_be64(entry.data());
    const std::uint32_t l1_entries = load_be32(entry.data() + 8);
    const std::uint32_t lengths = load_be32(entry.data() + 12);  // of id and name, 16 bits each
    const std::uint32_t extra = load_be32(entry.data() + 36);
    const std::uint64_t l1_size = l1_entries * sizeof(std::uint64_t);
    if (extra > kMaxExtra || l1_size > qcow2::kMaxL1Size || (l1_entries > 0 && !is_place(l1_offset))) {
      done = damaged(fmt::format("its snapshot {} cannot be", i));
    } else {
      add(l1_offset, l1_size, Qcow2Table::snapshot_l1);
    }
    at += (kFixed + std::min(extra, kMaxExtra) + (lengths >> 16) + (lengths & 0xffff) + kAlign - 1) / kAlign *
          kAlign;
  }
  add(header.snapshots_offset, at - header.snapshots_offset, Qcow2Table::snapshot_table);
  return done;
}

}  // namespace balloon::vmm
