// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/metadata_cache.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace balloon::vmm {

Result<std::span<std::byte>> MetadataCache::at(std::uint64_t offset) {
  const std::uint64_t start = offset / slice_size_ * slice_size_;
  auto found = slices_.find(start);
  if (found == slices_.end()) {
    if (slices_.size() >= max_slices_) BALLOON_TRY(make_room());
    Slice slice{.buffer = AlignedBuffer(slice_size_)};
    BALLOON_TRY(file_.disk().read_padded(start, slice.buffer.bytes()));
    found = slices_.emplace(start, std::move(slice)).first;
  }
  found->second.last_use = ++uses_;
  return found->second.buffer.bytes().subspan(offset - start);
}

Result<void> MetadataCache::make_room() {
  const auto older = [](const auto& a, const auto& b) {
    return std::pair(a.second.changed, a.second.last_use) < std::pair(b.second.changed, b.second.last_use);
  };
  if (std::ranges::min_element(slices_, older)->second.changed) BALLOON_TRY(write_back_());
  const auto oldest = std::ranges::min_element(slices_, older);
  if (oldest->second.changed) return fail("the tables' cache could not be written");
  slices_.erase(oldest);
  return {};
}

void MetadataCache::changed(std::uint64_t offset) {
  Slice& slice = slices_.at(offset / slice_size_ * slice_size_);
  if (!slice.changed) ++changes_;
  slice.changed = true;
}

Result<void> MetadataCache::write_changes() {
  if (changes_ == 0) return {};
  std::vector<std::uint64_t> starts;
  for (const auto& [start, slice] : slices_) {
    if (slice.changed) starts.push_back(start);
  }
  std::ranges::sort(starts);
  for (const std::uint64_t start : starts) {
    Slice& slice = slices_.at(start);
    BALLOON_TRY(file_.write_table(start, slice.buffer.bytes()));
    slice.changed = false;
    --changes_;
  }
  return {};
}

void MetadataCache::forget(std::uint64_t offset, std::uint64_t size) {
  std::erase_if(slices_, [&](const auto& entry) {
    const bool within = entry.first >= offset && entry.first < offset + size;
    if (within && entry.second.changed) --changes_;
    return within;
  });
}

}  // namespace balloon::vmm
