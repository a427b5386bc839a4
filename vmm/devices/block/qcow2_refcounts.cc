// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/qcow2_refcounts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace balloon::vmm {
namespace {

/// 256 KiB: the counts of 8 GiB in clusters of 64 KiB, so that an allocation rarely waits for the disk.
constexpr std::size_t kCachedSlices = 64;

constexpr std::uint64_t kMaxFileSize = 1ULL << 56;  // the format's: offsets have 56 bits

std::size_t slice_size(const Qcow2Header& header) {
  return std::min<std::size_t>(header.cluster_size(), MetadataCache::kMaxSliceSize);
}

/// Reads count `index` of those from `from` on: big-endian, or packed from the lowest bit up when they are
/// smaller than a byte.
std::uint64_t load_count(std::span<const std::byte> from, std::uint64_t bit, std::uint32_t order) {
  const std::byte* at = from.data();
  if (order < 3) {
    return std::to_integer<std::uint64_t>(*at) >> (bit % 8) & ((1U << (1U << order)) - 1);
  }
  std::uint64_t value = 0;
  for (std::uint32_t i = 0; i < 1U << (order - 3); ++i)
    value = value << 8 | std::to_integer<std::uint64_t>(at[i]);
  return value;
}

void store_count(std::span<std::byte> to, std::uint64_t bit, std::uint32_t order, std::uint64_t value) {
  if (order < 3) {
    const unsigned mask = ((1U << (1U << order)) - 1) << (bit % 8);
    const auto others = std::to_integer<unsigned>(to[0]) & ~mask;
    to[0] = static_cast<std::byte>(others | static_cast<unsigned>(value << (bit % 8)));
    return;
  }
  for (std::uint32_t i = 1U << (order - 3); i-- > 0; value >>= 8)
    to[i] = static_cast<std::byte>(value & 0xff);
}

}  // namespace

Qcow2Refcounts::Qcow2Refcounts(Qcow2File& file, Qcow2Header& header)
    : file_(file),
      header_(header),
      blocks_(file, slice_size(header), kCachedSlices, [this] { return blocks_.write_changes(); }),
      tail_((file.disk().end() + header.cluster_size() - 1) >> header.cluster_bits) {}

Result<void> Qcow2Refcounts::load() {
  std::vector<std::byte> bytes(header_.refcount_table_clusters * header_.cluster_size());
  if (auto done = file_.disk().read_padded(header_.refcount_table_offset, bytes); !done) {
    return fail("its refcount table", done.error());
  }
  table_.resize(bytes.size() / sizeof(std::uint64_t));
  for (std::size_t i = 0; i < table_.size(); ++i)
    table_[i] = load_be64(bytes.data() + i * sizeof(std::uint64_t));
  return {};
}

Result<void> Qcow2Refcounts::check() const {
  for (std::size_t i = 0; i < table_.size(); ++i) {
    if (table_[i] % header_.cluster_size() != 0 || table_[i] >= kMaxFileSize) {
      return fail(
          fmt::format("it is damaged: its refcount block {} at {:#x} is not at a cluster's start; repair it "
                      "with qemu-img check -r all",
                      i, table_[i]));
    }
  }
  return {};
}

std::vector<Qcow2File::Range> Qcow2Refcounts::tables() const {
  std::vector<Qcow2File::Range> ranges{{.first = header_.refcount_table_offset >> header_.cluster_bits,
                                        .count = header_.refcount_table_clusters,
                                        .table = Qcow2Table::refcount_table}};
  for (const std::uint64_t block : table_) {
    if (block != 0)
      ranges.push_back({.first = block >> header_.cluster_bits, .table = Qcow2Table::refcount_block});
  }
  return ranges;
}

std::uint64_t Qcow2Refcounts::place(std::uint64_t cluster) const {
  const std::uint64_t per_block = header_.refcounts_per_block();
  return table_[cluster / per_block] + ((cluster % per_block << header_.refcount_order) / 8);
}

Result<std::uint64_t> Qcow2Refcounts::get(std::uint64_t cluster) {
  const std::uint64_t block = cluster / header_.refcounts_per_block();
  if (block >= table_.size() || table_[block] == 0) return 0;
  const auto bytes = blocks_.at(place(cluster));
  if (!bytes) return std::unexpected(bytes.error());
  return load_count(*bytes, cluster << header_.refcount_order, header_.refcount_order);
}

Result<void> Qcow2Refcounts::set(std::uint64_t cluster, std::uint64_t count) {
  const std::uint64_t at = place(cluster);
  const auto bytes = blocks_.at(at);
  if (!bytes) return std::unexpected(bytes.error());
  store_count(*bytes, cluster << header_.refcount_order, header_.refcount_order, count);
  blocks_.changed(at);
  return {};
}

Result<bool> Qcow2Refcounts::is_free(std::uint64_t cluster) {
  const auto used = get(cluster);
  if (!used) return std::unexpected(used.error());
  if (*used != 0) return false;
  if (!file_.is_table(cluster)) return true;
  return fail(
      fmt::format("the image is damaged: its cluster {:#x} holds a table, but is not counted; repair it with "
                  "qemu-img check -r all",
                  cluster << header_.cluster_bits));
}

Result<Qcow2Refcounts::Run> Qcow2Refcounts::allocate(std::uint64_t count) {
  for (std::uint64_t looked = 0; looked < 2 * kMostLooked; ++looked) {
    // First within the file, then behind its end.
    std::uint64_t& at = next_free_ < tail_ && looked < kMostLooked ? next_free_ : tail_;
    if (at >= kMaxFileSize >> header_.cluster_bits) break;
    BALLOON_TRY(ensure_block(at));
    auto free = is_free(at);
    if (!free) return std::unexpected(free.error());
    if (!*free) {
      ++at;
      continue;
    }
    Run run{.first = at};
    const std::uint64_t block_end = (at / header_.refcounts_per_block() + 1) * header_.refcounts_per_block();
    do {
      BALLOON_TRY(set(run.first + run.count, 1));
      ++run.count;
      if (run.count == count || run.first + run.count == block_end) break;
      free = is_free(run.first + run.count);
    } while (free && *free);
    if (next_free_ == run.first) next_free_ += run.count;
    tail_ = std::max(tail_, run.first + run.count);
    return run;
  }
  return fail("the image has no room left, or its refcounts are damaged");
}

Result<std::uint64_t> Qcow2Refcounts::release(std::uint64_t cluster) {
  const auto count = get(cluster);
  if (!count) return std::unexpected(count.error());
  if (*count == 0) {
    return fail(
        fmt::format("the image is damaged: its cluster {:#x} is in use, but not counted; repair it with "
                    "qemu-img check -r all",
                    cluster << header_.cluster_bits));
  }
  BALLOON_TRY(set(cluster, *count - 1));
  if (*count == 1) next_free_ = std::min(next_free_, cluster);
  return *count - 1;
}

// The rare steps below write at once and in order: a block or table is on the medium before something refers
// to it.

Result<void> Qcow2Refcounts::ensure_block(std::uint64_t cluster) {
  const std::uint64_t per_block = header_.refcounts_per_block();
  const std::uint64_t index = cluster / per_block;
  while (index >= table_.size()) BALLOON_TRY(grow_table());
  if (table_[index] != 0) return {};
  // Without a block all its clusters are free: so this one can hold the block, which counts itself.
  BALLOON_TRY(file_.claim({{.first = cluster, .table = Qcow2Table::refcount_block}}));
  auto made = make_block(cluster);
  if (!made) {
    table_[index] = 0;
    file_.drop(cluster);
  }
  return made;
}

Result<void> Qcow2Refcounts::make_block(std::uint64_t cluster) {
  const std::uint64_t per_block = header_.refcounts_per_block();
  const std::uint64_t offset = cluster << header_.cluster_bits;
  AlignedBuffer block(header_.cluster_size());
  std::ranges::fill(block.bytes(), std::byte{0});
  const std::uint64_t bit = cluster % per_block << header_.refcount_order;
  store_count(block.bytes().subspan(bit / 8), bit, header_.refcount_order, 1);
  blocks_.forget(offset, header_.cluster_size());
  BALLOON_TRY(file_.write_table(offset, block.bytes()));
  BALLOON_TRY(file_.disk().sync());
  const std::uint64_t index = cluster / per_block;
  table_[index] = offset;
  std::array<std::byte, sizeof(std::uint64_t)> entry{};
  store_be64(entry.data(), offset);
  BALLOON_TRY(file_.write_table(header_.refcount_table_offset + index * sizeof(std::uint64_t), entry));
  return file_.disk().sync();
}

Result<void> Qcow2Refcounts::grow_table() {
  const std::uint64_t cluster_size = header_.cluster_size();
  const std::uint64_t per_block = header_.refcounts_per_block();
  // Nothing behind what the old table covers is in use: there the new one goes, and the blocks that count it.
  const std::uint64_t first = table_.size() * per_block;
  const std::uint32_t old_clusters = header_.refcount_table_clusters;
  const std::uint32_t clusters = old_clusters + old_clusters / 2 + 1;
  if (clusters * cluster_size > qcow2::kMaxRefcountTable) return fail("the image's refcount table is full");
  std::uint32_t blocks = 1;
  while (blocks * per_block < clusters + blocks) ++blocks;

  std::vector<Qcow2File::Range> ranges{
      {.first = first, .count = clusters, .table = Qcow2Table::refcount_table}};
  std::vector<std::uint64_t> table = table_;
  table.resize(clusters * cluster_size / sizeof(std::uint64_t), 0);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    ranges.push_back({.first = first + clusters + i, .table = Qcow2Table::refcount_block});
    table[table_.size() + i] = ranges.back().first << header_.cluster_bits;
  }
  BALLOON_TRY(file_.claim(ranges));
  if (auto written = write_table(table, first, clusters, blocks); !written) {
    for (const Qcow2File::Range& range : ranges) file_.drop(range.first);
    return written;
  }
  const std::uint64_t old_first = header_.refcount_table_offset >> header_.cluster_bits;
  header_.refcount_table_offset = first << header_.cluster_bits;
  header_.refcount_table_clusters = clusters;
  table_ = std::move(table);
  file_.drop(old_first);
  for (std::uint64_t i = 0; i < old_clusters; ++i) {
    if (const auto left = release(old_first + i); !left) return std::unexpected(left.error());
  }
  return {};
}

/// The new table, its blocks behind it, and then the header that leads to it.
Result<void> Qcow2Refcounts::write_table(std::span<const std::uint64_t> table, std::uint64_t first,
                                         std::uint32_t clusters, std::uint32_t blocks) {
  const std::uint64_t cluster_size = header_.cluster_size();
  std::vector<std::byte> bytes(blocks * cluster_size);
  for (std::uint64_t i = 0; i < clusters + blocks; ++i) {
    const std::uint64_t bit = i << header_.refcount_order;
    store_count(std::span(bytes).subspan(bit / 8), bit, header_.refcount_order, 1);
  }
  blocks_.forget(first << header_.cluster_bits, (clusters + blocks) * cluster_size);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    BALLOON_TRY(file_.write_table((first + clusters + i) << header_.cluster_bits,
                                  std::span(bytes).subspan(i * cluster_size, cluster_size)));
  }
  bytes.assign(clusters * cluster_size, std::byte{0});
  for (std::size_t i = 0; i < table.size(); ++i)
    store_be64(bytes.data() + i * sizeof(std::uint64_t), table[i]);
  BALLOON_TRY(file_.write_table(first << header_.cluster_bits, bytes));
  BALLOON_TRY(file_.disk().sync());

  std::array<std::byte, 12> place{};
  store_be64(place.data(), first << header_.cluster_bits);
  store_be32(place.data() + 8, clusters);
  BALLOON_TRY(file_.write_table(qcow2::kRefcountTablePlace, place));
  return file_.disk().sync();
}

}  // namespace balloon::vmm
