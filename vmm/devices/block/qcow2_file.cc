// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/qcow2_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace balloon::vmm {

std::string_view name(Qcow2Table table) {
  switch (table) {
    case Qcow2Table::header:
      return "header";
    case Qcow2Table::l1:
      return "L1 table";
    case Qcow2Table::l2:
      return "L2 table";
    case Qcow2Table::refcount_table:
      return "refcount table";
    case Qcow2Table::refcount_block:
      return "refcount block";
    case Qcow2Table::snapshot_table:
      return "snapshot table";
    case Qcow2Table::snapshot_l1:
      return "snapshot's L1 table";
  }
  return "";
}

const Qcow2File::Range* Qcow2File::find(std::uint64_t first, std::uint64_t end) const {
  const auto found = std::ranges::upper_bound(tables_, first, {}, &Range::end);
  return found != tables_.end() && found->first < end ? &*found : nullptr;
}

Result<void> Qcow2File::claim(std::vector<Range> ranges) {
  std::erase_if(ranges, [](const Range& range) { return range.count == 0; });
  std::ranges::sort(ranges, {}, &Range::first);
  const auto overlap = [this](const Range& one, const Range& other) {
    return fail(
        fmt::format("the image is damaged: its {} lies over its {}, at {:#x}; repair it with qemu-img "
                    "check -r all, or open it read-only",
                    name(one.table), name(other.table), std::max(one.first, other.first) << cluster_bits_));
  };
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (i > 0 && ranges[i].first < ranges[i - 1].end()) return overlap(ranges[i], ranges[i - 1]);
    if (const Range* other = find(ranges[i].first, ranges[i].end())) return overlap(ranges[i], *other);
  }
  const auto old_end = static_cast<std::ptrdiff_t>(tables_.size());
  tables_.insert(tables_.end(), ranges.begin(), ranges.end());
  std::inplace_merge(tables_.begin(), tables_.begin() + old_end, tables_.end(),
                     [](const Range& a, const Range& b) { return a.first < b.first; });
  return {};
}

void Qcow2File::claim_rest(std::vector<Range> ranges) {
  ranges.insert(ranges.end(), tables_.begin(), tables_.end());
  std::ranges::sort(ranges, {}, &Range::first);
  // Within one vector: there may be millions.
  std::size_t kept = 0;
  for (Range range : ranges) {
    const std::uint64_t free = std::max(range.first, kept == 0 ? 0 : ranges[kept - 1].end());
    if (free >= range.end()) continue;
    range.count = static_cast<std::uint32_t>(range.end() - free);
    range.first = free;
    ranges[kept++] = range;
  }
  ranges.resize(kept);
  tables_ = std::move(ranges);
}

void Qcow2File::drop(std::uint64_t first) {
  const auto found = std::ranges::lower_bound(tables_, first, {}, &Range::first);
  if (found != tables_.end() && found->first == first) tables_.erase(found);
}

Result<void> Qcow2File::check_data(std::uint64_t offset, std::uint64_t size) const {
  const std::uint64_t end = (offset + size + (1ULL << cluster_bits_) - 1) >> cluster_bits_;
  const Range* table = find(offset >> cluster_bits_, end);
  if (table == nullptr) return {};
  return fail(
      fmt::format("the image is damaged: data lies over its {}, at {:#x}; repair it with qemu-img check "
                  "-r all",
                  name(table->table), table->first << cluster_bits_));
}

Result<void> Qcow2File::write_data(std::uint64_t offset, std::span<const std::byte> from) {
  BALLOON_TRY(check_data(offset, from.size()));
  return file_.write(offset, from);
}

Result<void> Qcow2File::write_table(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t first = offset >> cluster_bits_;
  const Range* table = find(first, first + 1);
  if (table == nullptr || offset + from.size() > table->end() << cluster_bits_)
    return fail(fmt::format("the image is damaged: {:#x} belongs to none of its tables", offset));
  return file_.write(offset, from);
}

Result<void> Qcow2File::punch(std::uint64_t offset, std::uint64_t size) const {
  BALLOON_TRY(check_data(offset, size));
  file_.punch(offset, size);
  return {};
}

}  // namespace balloon::vmm
