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

Qcow2Refcounts::Qcow2Refcounts(DiskFile& file, Qcow2Header& header)
    : file_(file),
      header_(header),
      blocks_(file, slice_size(header), kCachedSlices, [this] { return blocks_.write_changes(); }) {}

Result<void> Qcow2Refcounts::load() {
  std::vector<std::byte> bytes(header_.refcount_table_clusters * header_.cluster_size());
  if (auto done = file_.read_padded(header_.refcount_table_offset, bytes); !done) {
    return fail("its refcount table", done.error());
  }
  table_.resize(bytes.size() / sizeof(std::uint64_t));
  for (std::size_t i = 0; i < table_.size(); ++i) {
    table_[i] = load_be64(bytes.data() + i * sizeof(std::uint64_t));
    if (table_[i] % header_.cluster_size() != 0 || table_[i] >= kMaxFileSize) {
      return fail(
          fmt::format("it is damaged: its refcount block {} at {:#x} is not at a cluster's start; repair it "
                      "with qemu-img check -r all",
                      i, table_[i]));
    }
  }
  return {};
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

Result<Qcow2Refcounts::Run> Qcow2Refcounts::allocate(std::uint64_t count) {
  for (std::uint64_t cluster = next_free_;; ++cluster) {
    if (cluster >= kMaxFileSize >> header_.cluster_bits) return fail("the image has no room left");
    BALLOON_TRY(ensure_block(cluster));
    auto used = get(cluster);
    if (!used) return std::unexpected(used.error());
    if (*used != 0) continue;
    Run run{.first = cluster};
    const std::uint64_t block_end =
        (cluster / header_.refcounts_per_block() + 1) * header_.refcounts_per_block();
    do {
      BALLOON_TRY(set(run.first + run.count, 1));
      ++run.count;
      if (run.count == count || run.first + run.count == block_end) break;
      used = get(run.first + run.count);
    } while (used && *used == 0);
    next_free_ = run.first + run.count;
    return run;
  }
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

bool Qcow2Refcounts::in_table(std::uint64_t cluster) const {
  const std::uint64_t first = header_.refcount_table_offset >> header_.cluster_bits;
  return cluster >= first && cluster - first < header_.refcount_table_clusters;
}

// The rare steps below write at once and in order: a block or table is on the medium before something refers
// to it.

Result<void> Qcow2Refcounts::ensure_block(std::uint64_t cluster) {
  const std::uint64_t per_block = header_.refcounts_per_block();
  const std::uint64_t index = cluster / per_block;
  while (index >= table_.size()) BALLOON_TRY(grow_table());
  if (table_[index] != 0) return {};
  // Without a block all its clusters are free: so this one can hold the block, which counts itself.
  const std::uint64_t offset = cluster << header_.cluster_bits;
  AlignedBuffer block(header_.cluster_size());
  std::ranges::fill(block.bytes(), std::byte{0});
  const std::uint64_t bit = cluster % per_block << header_.refcount_order;
  store_count(block.bytes().subspan(bit / 8), bit, header_.refcount_order, 1);
  blocks_.forget(offset, header_.cluster_size());
  BALLOON_TRY(file_.write(offset, block.bytes()));
  BALLOON_TRY(file_.sync());
  table_[index] = offset;
  if (auto written = write_table_entry(index); !written) {
    table_[index] = 0;
    return written;
  }
  return {};
}

Result<void> Qcow2Refcounts::write_table_entry(std::uint64_t index) {
  std::array<std::byte, sizeof(std::uint64_t)> bytes{};
  store_be64(bytes.data(), table_[index]);
  BALLOON_TRY(file_.write(header_.refcount_table_offset + index * sizeof(std::uint64_t), bytes));
  return file_.sync();
}

Result<void> Qcow2Refcounts::grow_table() {
  const std::uint64_t cluster_size = header_.cluster_size();
  const std::uint64_t per_block = header_.refcounts_per_block();
  const std::uint64_t entries_per_cluster = cluster_size / sizeof(std::uint64_t);
  // Nothing behind what the old table covers is in use: there the new one goes, and the blocks that count it.
  const std::uint64_t first = table_.size() * per_block;
  const std::uint64_t old_clusters = header_.refcount_table_clusters;
  const std::uint64_t clusters = old_clusters + old_clusters / 2 + 1;
  if (clusters * cluster_size > qcow2::kMaxRefcountTable) return fail("the image's refcount table is full");
  std::uint64_t blocks = 1;
  while (blocks * per_block < clusters + blocks) ++blocks;

  std::vector<std::uint64_t> table = table_;
  table.resize(clusters * entries_per_cluster, 0);
  std::vector<std::byte> bytes(blocks * cluster_size);
  for (std::uint64_t i = 0; i < clusters + blocks; ++i) {
    const std::uint64_t bit = i << header_.refcount_order;
    store_count(std::span(bytes).subspan(bit / 8), bit, header_.refcount_order, 1);
  }
  const std::uint64_t blocks_offset = (first + clusters) << header_.cluster_bits;
  for (std::uint64_t i = 0; i < blocks; ++i) table[table_.size() + i] = blocks_offset + i * cluster_size;
  blocks_.forget(first << header_.cluster_bits, (clusters + blocks) * cluster_size);
  BALLOON_TRY(file_.write(blocks_offset, bytes));
  bytes.assign(clusters * cluster_size, std::byte{0});
  for (std::size_t i = 0; i < table.size(); ++i)
    store_be64(bytes.data() + i * sizeof(std::uint64_t), table[i]);
  BALLOON_TRY(file_.write(first << header_.cluster_bits, bytes));
  BALLOON_TRY(file_.sync());

  std::array<std::byte, 12> place{};
  store_be64(place.data(), first << header_.cluster_bits);
  store_be32(place.data() + 8, static_cast<std::uint32_t>(clusters));
  BALLOON_TRY(file_.write(qcow2::kRefcountTablePlace, place));
  BALLOON_TRY(file_.sync());
  const std::uint64_t old_first = header_.refcount_table_offset >> header_.cluster_bits;
  header_.refcount_table_offset = first << header_.cluster_bits;
  header_.refcount_table_clusters = static_cast<std::uint32_t>(clusters);
  table_ = std::move(table);
  for (std::uint64_t i = 0; i < old_clusters; ++i) {
    if (const auto left = release(old_first + i); !left) return std::unexpected(left.error());
  }
  return {};
}

}  // namespace balloon::vmm
