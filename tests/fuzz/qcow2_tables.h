// SPDX-License-Identifier: Apache-2.0
// The tables of a qcow2 image in a file, read without the code that is tested: what a guest may change of
// them, and what it may not.
#pragma once

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "vmm/devices/block/qcow2_format.h"

namespace balloon::vmm::fuzz {

/// Some of a disk, in bytes: at least one.
struct Area {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};

class Qcow2Tables {
 public:
  /// Of an image that can be opened.
  explicit Qcow2Tables(int file) : file_(file), end_(size_of(file)), header_(read(0, kHeader)) {
    refcount_table_ = load_be64(header_.data() + qcow2::kRefcountTablePlace);
    const std::uint64_t refcount_table_size = std::uint64_t{load_be32(header_.data() + 56)} << bits_;
    const std::uint64_t l1_size = load_be32(header_.data() + 36) * sizeof(std::uint64_t);
    add_place(0, cluster());
    add_place(l1_offset_, l1_size);
    add_place(refcount_table_, refcount_table_size);
    blocks_ = entries(refcount_table_, refcount_table_size);
    for (const auto& [index, block] : blocks_) add_place(block, cluster());
    l1_ = entries(l1_offset_, l1_size);
    for (const auto& [index, entry] : l1_) {
      if (table_of(entry) != 0) add_place(table_of(entry), cluster());
    }
    counts_ = {count(0), count(l1_offset_ >> bits_)};
  }

  /// Whether some of these bytes of the file are a table's.
  bool touches(std::uint64_t offset, std::uint64_t size) const {
    const auto next = places_.upper_bound(offset);
    return (next != places_.end() && next->first < offset + size) ||
           (next != places_.begin() && std::prev(next)->second > offset);
  }

  /// Whether no two tables share a cluster.
  bool apart() const { return apart_; }

  /// What L2 entries say: those that are not 0, by the cluster of the disk. Of an image that was taken for
  /// writing, no two tables of which share a cluster. `before` spares those that lay behind the end of the
  /// file, which may be far off by now.
  using Clusters = std::map<std::uint64_t, std::uint64_t>;
  Clusters clusters(const Qcow2Tables* before = nullptr) const {
    Clusters found;
    for (const auto& [index, entry] : l1_) {
      const std::uint64_t table = table_of(entry);
      const bool is_new = before == nullptr || !before->l1_.contains(index) || before->l1_.at(index) != entry;
      if (table == 0 || (!is_new && table >= before->end_)) continue;
      for (const auto& [in_table, value] : entries(table, cluster()))
        found[index * (cluster() / sizeof(std::uint64_t)) + in_table] = value;
    }
    return found;
  }

  /// Since then a guest changed these areas of its disk, and no more. What it wrote has `mark` in it.
  void require_only(const std::vector<Area>& areas, const Clusters& clusters_before,
                    std::span<const std::byte> mark) const {
    const Qcow2Tables now(file_);
    for (std::size_t at = 0; at < kClearedByWriters; ++at) {
      const bool may_move = at >= qcow2::kRefcountTablePlace && at < qcow2::kRefcountTablePlace + 12;
      require(may_move || now.header_[at] == header_[at], "a guest changed its image's header");
    }
    require(now.counts_ == counts_, "the refcount of the header or of the L1 table changed");
    if (now.refcount_table_ == refcount_table_) {  // else it has grown
      for (const auto& [index, block] : blocks_)
        require(now.blocks_.contains(index) && now.blocks_.at(index) == block, "a refcount block moved");
    }
    const auto clusters_now = now.clusters(this);
    for (const auto& [one, other] :
         {std::pair{&clusters_before, &clusters_now}, std::pair{&clusters_now, &clusters_before}}) {
      for (const auto& [index, entry] : *one) {
        const auto found = other->find(index);
        if (found != other->end() && found->second == entry) continue;
        require(std::ranges::any_of(areas,
                                    [&](const Area& area) {
                                      return index >= area.first >> bits_ && index <= (area.end - 1) >> bits_;
                                    }),
                "an L2 entry changed for which there was no write");
      }
    }
    for (const auto& [first, end] : now.places_) {
      if (first >= now.end_) continue;
      const auto bytes = now.read(first, std::min({end, now.end_, first + kMostLooked}) - first);
      require(::memmem(bytes.data(), bytes.size(), mark.data(), mark.size()) == nullptr,
              "what a guest wrote lies in a table");
    }
  }

 private:
  static constexpr std::size_t kHeader = 104;
  static constexpr std::size_t kClearedByWriters = 88;  ///< features, from here on
  static constexpr std::uint64_t kMostLooked = 64 * 1024;

  static std::uint64_t size_of(int file) {
    struct stat status{};
    require(::fstat(file, &status) == 0, "looking at the image");
    return static_cast<std::uint64_t>(status.st_size);
  }
  static std::uint64_t table_of(std::uint64_t entry) { return entry & qcow2::kOffsetMask; }
  std::uint64_t cluster() const { return 1ULL << bits_; }

  std::vector<std::byte> read(std::uint64_t offset, std::uint64_t size) const {
    std::vector<std::byte> bytes(size);
    if (offset < end_)
      require(::pread(file_, bytes.data(), size, static_cast<off_t>(offset)) >= 0, "reading the image");
    return bytes;
  }
  /// Those that are not 0, by their index.
  std::map<std::uint64_t, std::uint64_t> entries(std::uint64_t offset, std::uint64_t size) const {
    std::map<std::uint64_t, std::uint64_t> found;
    if (offset >= end_) return found;
    const auto bytes = read(offset, (std::min(size, end_ - offset) + 7) / 8 * 8);
    for (std::size_t at = 0; at < bytes.size(); at += 8) {
      if (const std::uint64_t value = load_be64(bytes.data() + at); value != 0) found[at / 8] = value;
    }
    return found;
  }
  void add_place(std::uint64_t offset, std::uint64_t size) {
    if (offset % cluster() != 0 || size == 0) return;  // no table of a whole image
    const std::uint64_t new_end = (offset + size + cluster() - 1) >> bits_ << bits_;
    if (touches(offset, new_end - offset)) apart_ = false;
    std::uint64_t& end = places_[offset];
    end = std::max(end, new_end);
  }
  /// How often a cluster of the file is counted.
  std::uint64_t count(std::uint64_t index) const {
    const std::uint32_t order = load_be32(header_.data() + 4) == 2 ? 4 : load_be32(header_.data() + 96);
    const std::uint64_t of_block = cluster() * 8 >> order;
    const auto block = blocks_.find(index / of_block);
    if (block == blocks_.end()) return 0;
    const std::uint64_t bit = index % of_block << order;
    std::uint64_t value = 0;
    for (const std::byte byte : read(block->second + bit / 8, std::max(1U, (1U << order) / 8)))
      value = value << 8 | std::to_integer<std::uint64_t>(byte);
    return order < 3 ? value >> (bit % 8) & ((1U << (1U << order)) - 1) : value;
  }

  const int file_;
  const std::uint64_t end_;
  const std::vector<std::byte> header_;
  const std::uint32_t bits_ = load_be32(header_.data() + 20);
  const std::uint64_t l1_offset_ = load_be64(header_.data() + 40);
  std::uint64_t refcount_table_ = 0;
  std::map<std::uint64_t, std::uint64_t> l1_, blocks_;
  std::map<std::uint64_t, std::uint64_t> places_;  ///< of tables in the file: where they begin, and end
  bool apart_ = true;
  std::pair<std::uint64_t, std::uint64_t> counts_;
};

}  // namespace balloon::vmm::fuzz
