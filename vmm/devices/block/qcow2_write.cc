// SPDX-License-Identifier: Apache-2.0
// The writing side of Qcow2Image: new clusters, tables, and their order on the medium.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "vmm/devices/block/qcow2_image.h"

namespace balloon::vmm {
namespace {

/// A block of the L1 table that is written at once.
constexpr std::size_t kL1Block = 512;
constexpr std::size_t kL1BlockEntries = kL1Block / sizeof(std::uint64_t);
/// Freed clusters (64 KiB of list) after which requests wait once until the image is idle.
constexpr std::size_t kMaxFreed = 8192;

}  // namespace

Result<void> Qcow2Image::prepare_for_writing() {
  l1_changed_.assign((l1_.size() + kL1BlockEntries - 1) / kL1BlockEntries, false);
  if (header_.version < 3 || header_.autoclear_features == 0) return {};
  // Features that a writer clears when it does not keep them up, such as dirty bitmaps.
  const std::array<std::byte, sizeof(std::uint64_t)> none{};
  BALLOON_TRY(file_.write_table(qcow2::kAutoclearPlace, none));
  return file_.disk().sync();
}

Result<void> Qcow2Image::write(std::uint64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const auto extent = map_write(offset, from.size());
    if (!extent) return std::unexpected(extent.error());
    std::size_t done = extent->size;
    if (extent->kind == Extent::Kind::file) {
      BALLOON_TRY(file_.write_data(extent->offset, from.first(done)));
    } else {
      const auto written = write_new(offset, from.first(done));
      if (!written) return std::unexpected(written.error());
      done = *written;
    }
    offset += done;
    from = from.subspan(done);
  }
  return {};
}

Result<std::size_t> Qcow2Image::write_new(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t cluster = offset >> header_.cluster_bits;
  const std::size_t skip = offset % header_.cluster_size();
  if (skip == 0 && from.size() >= header_.cluster_size()) {
    const auto clusters = write_whole(cluster, from);
    if (!clusters) return std::unexpected(clusters.error());
    return *clusters << header_.cluster_bits;
  }
  const std::size_t size = std::min<std::size_t>(from.size(), header_.cluster_size() - skip);
  BALLOON_TRY(write_part(cluster, skip, from.first(size)));
  return size;
}

Result<std::uint64_t> Qcow2Image::write_whole(std::uint64_t cluster, std::span<const std::byte> from) {
  // First the table: what it needs is then out of the way of the data's run of clusters.
  if (const auto place = entry_place(cluster); !place) return std::unexpected(place.error());
  const auto run = refcounts_.allocate(from.size() >> header_.cluster_bits);
  if (!run) return std::unexpected(run.error());
  const std::uint64_t offset = run->first << header_.cluster_bits;
  auto done = file_.write_data(offset, from.first(run->count << header_.cluster_bits));
  for (std::uint64_t i = 0; done && i < run->count; ++i) {
    done = set_entry(cluster + i, (offset + (i << header_.cluster_bits)) | qcow2::kCopied);
    if (!done) return std::unexpected(done.error());
  }
  if (done) return run->count;
  for (std::uint64_t i = 0; i < run->count; ++i) {
    if (const auto left = refcounts_.release(run->first + i); !left) break;
  }
  return std::unexpected(done.error());
}

Result<void> Qcow2Image::write_part(std::uint64_t cluster, std::size_t skip,
                                    std::span<const std::byte> from) {
  if (const auto place = entry_place(cluster); !place) return std::unexpected(place.error());
  const auto old = look_up(cluster);
  if (!old) return std::unexpected(old.error());
  const std::uint64_t start = cluster << header_.cluster_bits;
  const bool was_zero =
      old->kind == Qcow2Cluster::Kind::zero ||
      (old->kind == Qcow2Cluster::Kind::unallocated && (!backing_ || start >= backing_->size()));
  // A place that is kept for a cluster of zeros holds anything; it may be written before the tables say so.
  const bool kept = old->kind == Qcow2Cluster::Kind::zero && old->copied && old->offset != 0;
  std::uint64_t offset = old->offset;
  if (!kept) {
    const auto run = refcounts_.allocate(1);
    if (!run) return std::unexpected(run.error());
    offset = run->first << header_.cluster_bits;
  }
  Result<void> done;
  if (was_zero && !kept && offset >= file_.disk().end()) {
    done =
        file_.write_data(offset + skip, from);  // the rest is behind the file's end, or a hole of it: zeros
  } else {
    const AlignedBuffer whole(header_.cluster_size());
    done = read(start, whole.bytes());
    if (done) {
      std::memcpy(whole.bytes().data() + skip, from.data(), from.size());
      done = file_.write_data(offset, whole.bytes());
    }
  }
  if (!done) {
    if (!kept) {
      if (const auto left = refcounts_.release(offset >> header_.cluster_bits); !left) return done;
    }
    return done;
  }
  return set_entry(cluster, offset | qcow2::kCopied);
}

Result<std::uint64_t> Qcow2Image::entry_place(std::uint64_t cluster) {
  const std::uint64_t index = cluster / header_.l2_entries();
  std::uint64_t table = l1_[index] & qcow2::kOffsetMask;
  if (table == 0 || (l1_[index] & qcow2::kCopied) == 0) {
    const auto made = new_l2_table(index);
    if (!made) return std::unexpected(made.error());
    table = *made;
  }
  return table + cluster % header_.l2_entries() * sizeof(std::uint64_t);
}

Result<std::uint64_t> Qcow2Image::new_l2_table(std::uint64_t l1_index) {
  const std::uint64_t old = l1_[l1_index] & qcow2::kOffsetMask;
  const AlignedBuffer content(header_.cluster_size());
  std::ranges::fill(content.bytes(), std::byte{0});
  // A snapshot's table: its clusters are counted for us already, so the copy is as good as the original.
  for (std::size_t done = 0; old != 0 && done < content.bytes().size();) {
    const auto bytes = l2_.at(old + done);
    if (!bytes) return std::unexpected(bytes.error());
    std::ranges::copy(*bytes, content.bytes().subspan(done).begin());
    done += bytes->size();
  }
  const auto run = refcounts_.allocate(1);
  if (!run) return std::unexpected(run.error());
  const std::uint64_t offset = run->first << header_.cluster_bits;
  l2_.forget(offset, header_.cluster_size());
  BALLOON_TRY(file_.claim({{.first = run->first, .table = Qcow2Table::l2}}));
  if (auto written = file_.write_table(offset, content.bytes()); !written) {
    file_.drop(run->first);
    if (const auto left = refcounts_.release(run->first); !left) return std::unexpected(left.error());
    return std::unexpected(written.error());
  }
  if (old != 0) {
    file_.drop(old >> header_.cluster_bits);
    freed_.push_back(old >> header_.cluster_bits);
  }
  l1_[l1_index] = offset | qcow2::kCopied;
  l1_changed_[l1_index / kL1BlockEntries] = true;
  l1_has_changes_ = true;
  return offset;
}

Result<void> Qcow2Image::set_entry(std::uint64_t cluster, std::uint64_t entry) {
  const auto old = look_up(cluster);
  if (!old) return std::unexpected(old.error());
  const auto place = entry_place(cluster);
  if (!place) return std::unexpected(place.error());
  const auto bytes = l2_.at(*place);
  if (!bytes) return std::unexpected(bytes.error());
  store_be64(bytes->data(), entry);
  l2_.changed(*place);
  const bool same_place =
      old->kind != Qcow2Cluster::Kind::compressed && old->offset == (entry & qcow2::kOffsetMask);
  return same_place ? Result<void>{} : free_later(*old);
}

Result<void> Qcow2Image::free_later(const Qcow2Cluster& cluster) {
  if (cluster.kind == Qcow2Cluster::Kind::compressed) {
    // Every cluster of the file that the data touches was counted once for it.
    const std::uint64_t last = (cluster.offset + cluster.compressed_size - 1) >> header_.cluster_bits;
    for (std::uint64_t i = cluster.offset >> header_.cluster_bits; i <= last; ++i) freed_.push_back(i);
    if (unpacked_offset_ == cluster.offset) unpacked_offset_.reset();
  } else if (cluster.offset != 0) {
    freed_.push_back(cluster.offset >> header_.cluster_bits);
  }
  return {};
}

Result<void> Qcow2Image::zero(std::uint64_t offset, std::uint64_t size, bool may_unmap) {
  return clear(offset, size, may_unmap ? Clear::zero_unmap : Clear::zero);
}

Result<void> Qcow2Image::discard(std::uint64_t offset, std::uint64_t size) {
  return clear(offset, size, Clear::discard);
}

Result<void> Qcow2Image::clear(std::uint64_t offset, std::uint64_t size, Clear how) {
  const std::uint64_t end = offset + size;
  while (offset < end) {
    const std::uint64_t cluster = offset >> header_.cluster_bits;
    const std::uint64_t next = std::min((cluster + 1) << header_.cluster_bits, end);
    const bool whole =
        offset % header_.cluster_size() == 0 && (next % header_.cluster_size() == 0 || next == header_.size);
    if (!backing_ && (l1_[cluster / header_.l2_entries()] & qcow2::kOffsetMask) == 0) {
      // Nothing is there, as far as this table goes.
      const std::uint64_t covered = header_.l2_entries() << header_.cluster_bits;
      offset = std::min((offset / covered + 1) * covered, end);
      continue;
    }
    if (whole) {
      BALLOON_TRY(clear_cluster(cluster, how));
    } else if (how != Clear::discard) {
      const auto extent = map_read(offset, next - offset);
      if (!extent) return std::unexpected(extent.error());
      if (extent->kind != Extent::Kind::zeros || extent->size < next - offset) {
        BALLOON_TRY(write(offset, std::vector<std::byte>(next - offset)));
      }
    }
    offset = next;
  }
  return {};
}

Result<void> Qcow2Image::clear_cluster(std::uint64_t cluster, Clear how) {
  const auto old = look_up(cluster);
  if (!old) return std::unexpected(old.error());
  using Kind = Qcow2Cluster::Kind;
  const std::uint64_t start = cluster << header_.cluster_bits;
  const bool zeros_below = !backing_ || start >= backing_->size();
  if (old->kind == Kind::unallocated && (zeros_below || how == Clear::discard)) return {};
  if (old->kind == Kind::zero && (how == Clear::zero || old->offset == 0)) return {};
  if (how == Clear::zero && (old->in_place() || header_.version < 3)) {
    if (header_.version < 3) {  // which has no clusters of zeros
      return write(start, std::vector<std::byte>(std::min(header_.cluster_size(), header_.size - start)));
    }
    return set_entry(cluster, old->offset | qcow2::kCopied | qcow2::kZero);
  }
  if (zeros_below) return set_entry(cluster, backing_ && header_.version >= 3 ? qcow2::kZero : 0);
  if (header_.version >= 3) return set_entry(cluster, qcow2::kZero);
  if (how == Clear::discard) return {};  // the backing file would show through
  return write(start, std::vector<std::byte>(std::min(header_.cluster_size(), header_.size - start)));
}

bool Qcow2Image::has_changes() const {
  return refcounts_.has_changes() || l2_.has_changes() || l1_has_changes_;
}

bool Qcow2Image::wants_idle() const { return freed_.size() > kMaxFreed; }

Result<void> Qcow2Image::write_tables() {
  BALLOON_TRY(refcounts_.write_changes());
  // The data, the new tables and the counts are on the medium before anything refers to them.
  BALLOON_TRY(file_.disk().sync());
  BALLOON_TRY(l2_.write_changes());
  return write_l1();
}

Result<void> Qcow2Image::write_l1() {
  if (!l1_has_changes_) return {};
  for (std::size_t block = 0; block < l1_changed_.size(); ++block) {
    if (!l1_changed_[block]) continue;
    std::array<std::byte, kL1Block> bytes{};
    const std::size_t first = block * kL1BlockEntries;
    const std::size_t count = std::min(kL1BlockEntries, l1_.size() - first);
    for (std::size_t i = 0; i < count; ++i)
      store_be64(bytes.data() + i * sizeof(std::uint64_t), l1_[first + i]);
    BALLOON_TRY(file_.write_table(header_.l1_offset + block * kL1Block,
                                  std::span(bytes).first(count * sizeof(std::uint64_t))));
    l1_changed_[block] = false;
  }
  l1_has_changes_ = false;
  return {};
}

Result<void> Qcow2Image::flush(bool idle) {
  if (l2_.has_changes() || l1_has_changes_) {
    BALLOON_TRY(write_tables());
  } else {
    BALLOON_TRY(refcounts_.write_changes());
  }
  BALLOON_TRY(file_.disk().sync());
  return idle ? free_now() : Result<void>{};
}

Result<void> Qcow2Image::free_now() {
  // The order of the list does not matter; sorted, its neighbours share tables and are punched as one.
  std::ranges::sort(freed_);
  Qcow2Refcounts::Run hole;
  const auto punch = [&]() -> Result<void> {
    if (hole.count == 0) return {};
    return file_.punch(hole.first << header_.cluster_bits, hole.count << header_.cluster_bits);
  };
  for (const std::uint64_t cluster : std::exchange(freed_, {})) {
    const auto left = refcounts_.release(cluster);
    if (!left) return std::unexpected(left.error());
    if (*left != 0) continue;
    if (hole.first + hole.count != cluster || hole.count == 0) {
      BALLOON_TRY(punch());
      hole = {.first = cluster};
    }
    ++hole.count;
  }
  BALLOON_TRY(punch());
  return refcounts_.write_changes();
}

}  // namespace balloon::vmm
