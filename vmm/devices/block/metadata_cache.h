// SPDX-License-Identifier: Apache-2.0
// A write-back cache of an image's tables, in slices of a few KiB, so that a large table costs no more than
// is used of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>

#include "base/error.h"
#include "vmm/devices/block/qcow2_file.h"

namespace balloon::vmm {

class MetadataCache {
 public:
  static constexpr std::size_t kMaxSliceSize = 4096;

  /// `slice_size`: a power of two; no table's start or end may lie within a slice.
  /// `write_back` makes all slices clean, in the order that the format needs; it is called when there is no
  /// clean slice left to make room.
  MetadataCache(Qcow2File& file, std::size_t slice_size, std::size_t max_slices,
                std::function<Result<void>()> write_back)
      : file_(file), slice_size_(slice_size), max_slices_(max_slices), write_back_(std::move(write_back)) {}

  /// The bytes from `offset` on to the end of its slice: until the next call.
  Result<std::span<std::byte>> at(std::uint64_t offset);
  /// Whether at() would give it without reading the file.
  bool has(std::uint64_t offset) const { return slices_.contains(offset / slice_size_ * slice_size_); }
  std::size_t slice_size() const { return slice_size_; }
  /// What at(offset) gave was changed.
  void changed(std::uint64_t offset);
  bool has_changes() const { return changes_ > 0; }
  Result<void> write_changes();
  /// Forgets what lies in the range: it has got new content, or another use.
  void forget(std::uint64_t offset, std::uint64_t size);

 private:
  struct Slice {
    AlignedBuffer buffer;
    bool changed = false;
    std::uint64_t last_use = 0;
  };
  Result<void> make_room();

  Qcow2File& file_;
  const std::size_t slice_size_;
  const std::size_t max_slices_;
  const std::function<Result<void>()> write_back_;
  std::unordered_map<std::uint64_t, Slice> slices_;  ///< by offset
  std::size_t changes_ = 0;
  std::uint64_t uses_ = 0;
};

}  // namespace balloon::vmm
