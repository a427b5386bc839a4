// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/qcow2_image.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "vmm/devices/block/qcow2_snapshots.h"

namespace balloon::vmm {
namespace {

/// 1 MiB: the tables of 8 GiB in clusters of 64 KiB.
constexpr std::size_t kCachedL2Slices = 256;
/// Of the deflate stream: QEMU writes it raw, with a window of 4 KiB.
constexpr int kWindowBits = -12;

Result<void> inflate_into(std::span<const std::byte> packed, std::span<std::byte> into) {
  z_stream stream{};
  if (::inflateInit2(&stream, kWindowBits) != Z_OK) return fail("zlib is out of memory");
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(into.data());
  stream.avail_out = static_cast<uInt>(into.size());
  const int result = ::inflate(&stream, Z_FINISH);
  ::inflateEnd(&stream);
  if ((result == Z_STREAM_END || result == Z_BUF_ERROR) && stream.avail_out == 0) return {};
  return fail("the image is damaged: a compressed cluster cannot be unpacked");
}

Result<Qcow2Header> read_header(const DiskFile& file) {
  std::vector<std::byte> start(qcow2::kHeaderSize);
  auto got = file.read_some(0, start);
  if (!got) return std::unexpected(got.error());
  start.resize(*got);
  const auto bits = parse_qcow2_cluster_bits(start);
  if (!bits) return std::unexpected(bits.error());
  start.resize(1ULL << *bits);
  got = file.read_some(0, start);
  if (!got) return std::unexpected(got.error());
  start.resize(*got);
  return parse_qcow2_header(start);
}

std::filesystem::path directory_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : ".";
}

/// Who made an image chose the name of its backing file, and so which file of the host its guest reads.
Result<void> check_backing(const std::filesystem::path& image, const std::filesystem::path& backing,
                           BackingFiles allowed) {
  if (allowed == BackingFiles::any) return {};
  if (allowed == BackingFiles::off) {
    return fail(
        fmt::format("it has the backing file {}, and backing files are off: say "
                    "backing=same-directory or backing=any if you know where the image is from",
                    backing.string()));
  }
  std::error_code failed;
  const auto place = std::filesystem::canonical(backing, failed).parent_path();
  if (failed) return fail(fmt::format("its backing file {}: {}", backing.string(), failed.message()));
  for (const auto& own : {directory_of(image), directory_of(std::filesystem::canonical(image, failed))}) {
    if (place == std::filesystem::canonical(own, failed) && !failed) return {};
  }
  return fail(
      fmt::format("its backing file {} is not in the image's own directory: say backing=any if you know "
                  "where the image is from",
                  backing.string()));
}

}  // namespace

Result<std::unique_ptr<Image>> open_qcow2(const std::string& path, bool read_only, bool direct,
                                          BackingFiles allowed, int depth, BlockLock lock) {
  auto image = Qcow2Image::open(path, read_only, direct, allowed, depth, lock);
  if (!image) return std::unexpected(std::move(image.error()));
  return std::move(*image);
}

Result<std::unique_ptr<Qcow2Image>> Qcow2Image::open(const std::string& path, bool read_only, bool direct,
                                                     BackingFiles allowed, int depth, BlockLock lock) {
  auto file = DiskFile::open(path, read_only, direct, lock);
  if (!file) return std::unexpected(std::move(file.error()));
  auto header = read_header(*file);
  if (!header) return std::unexpected(std::move(header.error()));
  if (!read_only && (header->dirty || header->corrupt)) {
    return fail(
        fmt::format("it is marked as {}: repair it with qemu-img check -r all {}, or open it read-only",
                    header->corrupt ? "damaged" : "not closed cleanly (dirty)", path));
  }
  std::unique_ptr<Qcow2Image> image(new Qcow2Image(std::move(*file), std::move(*header)));
  BALLOON_TRY(image->load());
  BALLOON_TRY(image->open_backing(direct, allowed, depth, lock));
  BALLOON_TRY(image->claim_tables(read_only));
  if (!read_only) BALLOON_TRY(image->prepare_for_writing());
  return image;
}

Qcow2Image::Qcow2Image(DiskFile file, Qcow2Header header)
    : file_(std::move(file), header.cluster_bits),
      header_(std::move(header)),
      refcounts_(file_, header_),
      l2_(file_, std::min<std::size_t>(header_.cluster_size(), MetadataCache::kMaxSliceSize), kCachedL2Slices,
          [this] { return write_tables(); }) {}

Qcow2Image::~Qcow2Image() {
  if (!has_changes() && freed_.empty()) return;
  if (const auto done = flush(true); !done)
    log::error("disk image {}: {}", file_.disk().path(), done.error().message);
}

Result<void> Qcow2Image::load() {
  std::vector<std::byte> bytes(header_.l1_entries * sizeof(std::uint64_t));
  if (auto done = file_.disk().read_padded(header_.l1_offset, bytes); !done)
    return fail("its L1 table", done.error());
  l1_.resize(header_.l1_entries);
  for (std::size_t i = 0; i < l1_.size(); ++i) {
    l1_[i] = load_be64(bytes.data() + i * sizeof(std::uint64_t));
    if ((l1_[i] & qcow2::kOffsetMask) % header_.cluster_size() != 0) {
      return fail(
          fmt::format("it is damaged: its L2 table {} at {:#x} is not at a cluster's start; repair it with "
                      "qemu-img check -r all",
                      i, l1_[i] & qcow2::kOffsetMask));
    }
  }
  return refcounts_.load();
}

Result<void> Qcow2Image::claim_tables(bool read_only) {
  const std::uint64_t l1_size = header_.l1_entries * sizeof(std::uint64_t);
  const auto l1_clusters = (l1_size + header_.cluster_size() - 1) >> header_.cluster_bits;
  auto tables = refcounts_.tables();
  tables.push_back({.first = 0, .table = Qcow2Table::header});
  tables.push_back({.first = header_.l1_offset >> header_.cluster_bits,
                    .count = static_cast<std::uint32_t>(l1_clusters),
                    .table = Qcow2Table::l1});
  if (!read_only) {
    BALLOON_TRY(refcounts_.check());
    BALLOON_TRY(check_counted(tables));
  }
  const auto has_table = [](std::uint64_t entry) { return (entry & qcow2::kOffsetMask) != 0; };
  tables.reserve(tables.size() + static_cast<std::size_t>(std::ranges::count_if(l1_, has_table)) + 1);
  for (const std::uint64_t entry : l1_) {
    const std::uint64_t table = entry & qcow2::kOffsetMask;
    if (table != 0) tables.push_back({.first = table >> header_.cluster_bits, .table = Qcow2Table::l2});
  }
  const auto snapshots = add_snapshot_tables(file_.disk(), header_, tables);
  if (read_only) {
    file_.claim_rest(std::move(tables));
    return {};
  }
  BALLOON_TRY(snapshots);
  return file_.claim(std::move(tables));
}

Result<void> Qcow2Image::check_counted(std::span<const Qcow2File::Range> tables) {
  // Those that need no look at the file: of the others, allocation finds out.
  for (const Qcow2File::Range& table : tables) {
    if (table.table == Qcow2Table::refcount_block) continue;
    for (std::uint64_t cluster = table.first; cluster < table.end(); ++cluster) {
      const auto count = refcounts_.get(cluster);
      if (!count) return std::unexpected(count.error());
      if (*count == 0) {
        return fail(
            fmt::format("it is damaged: its {} at {:#x} is not counted; repair it with qemu-img check "
                        "-r all, or open it read-only",
                        name(table.table), cluster << header_.cluster_bits));
      }
    }
  }
  return {};
}

Result<void> Qcow2Image::open_backing(bool direct, BackingFiles allowed, int depth, BlockLock lock) {
  if (header_.backing_file.empty()) return {};
  const std::string& name = header_.backing_file;
  if (name.starts_with("json:") || name.find("://") != std::string::npos || name.starts_with("nbd:")) {
    return fail(fmt::format(
        "its backing file {} is not a plain file's name, which is all that this VMM knows", name));
  }
  if (depth == 0) {
    return fail(fmt::format("its chain of backing files is longer than {}, or goes round in a circle",
                            kMaxBackingDepth));
  }
  const std::filesystem::path path = std::filesystem::path(file_.disk().path()).parent_path() / name;
  BALLOON_TRY(check_backing(file_.disk().path(), path, allowed));
  Result<std::unique_ptr<Image>> backing = std::unique_ptr<Image>();
  if (header_.backing_format == "qcow2") {
    backing = open_qcow2(path, true, direct, allowed, depth - 1, lock);
  } else if (header_.backing_format == "raw") {
    backing = open_raw(path, true, direct, lock);
  } else if (header_.backing_format.empty()) {
    // Guessing it from the content would let a guest that once wrote to a raw file choose.
    return fail(
        fmt::format("it does not say which format its backing file has: say it with qemu-img rebase -u -b "
                    "{} -F raw (or qcow2)",
                    name));
  } else {
    return fail(fmt::format("its backing file's format {} is neither raw nor qcow2", header_.backing_format));
  }
  if (!backing) return fail(fmt::format("its backing file {}", path.string()), backing.error());
  backing_ = std::move(*backing);
  return {};
}

ImageInfo Qcow2Image::info() const {
  return {.path = file_.disk().path(),
          .format = "qcow2",
          .virtual_size = Bytes{header_.size},
          .allocated = Bytes{file_.disk().allocated()},
          .cluster_size = Bytes{header_.cluster_size()},
          .version = header_.version,
          .refcount_bits = 1U << header_.refcount_order,
          .backing_name = header_.backing_file,
          .backing = backing_ ? std::make_shared<const ImageInfo>(backing_->info()) : nullptr};
}

Result<Qcow2Cluster> Qcow2Image::look_up(std::uint64_t cluster) {
  const std::uint64_t table = l1_[cluster / header_.l2_entries()] & qcow2::kOffsetMask;
  if (table == 0) return Qcow2Cluster{};
  const auto bytes = l2_.at(table + cluster % header_.l2_entries() * sizeof(std::uint64_t));
  if (!bytes) return std::unexpected(bytes.error());
  const auto found = parse_l2_entry(load_be64(bytes->data()), header_);
  if (found && found->offset != 0) {
    const bool compressed = found->kind == Qcow2Cluster::Kind::compressed;
    BALLOON_TRY(
        file_.check_data(found->offset, compressed ? found->compressed_size : header_.cluster_size()));
  }
  return found;
}

Result<Extent> Qcow2Image::map(std::uint64_t offset, std::uint64_t size, Access access) {
  switch (access) {
    case Access::read:
      return map_read(offset, size);
    case Access::write:
      return map_write(offset, size);
    case Access::zero:
    case Access::discard:
      break;
  }
  return Extent{.kind = Extent::Kind::slow, .size = size};
}

bool Qcow2Image::maps_at_once(std::uint64_t offset, std::uint64_t size) const {
  const std::uint64_t last = (offset + size - 1) >> header_.cluster_bits;
  const std::uint64_t per_slice = l2_.slice_size() / sizeof(std::uint64_t);
  for (std::uint64_t cluster = offset >> header_.cluster_bits; cluster <= last;
       cluster = (cluster / per_slice + 1) * per_slice) {
    const std::uint64_t table = l1_[cluster / header_.l2_entries()] & qcow2::kOffsetMask;
    const std::uint64_t entry = cluster % header_.l2_entries() * sizeof(std::uint64_t);
    if (table != 0 && !l2_.has(table + entry)) return false;
  }
  return !backing_ || offset >= backing_->size() ||
         backing_->maps_at_once(offset, std::min(size, backing_->size() - offset));
}

Result<Extent> Qcow2Image::map_read(std::uint64_t offset, std::uint64_t size) {
  const std::uint64_t cluster_size = header_.cluster_size();
  std::uint64_t cluster = offset >> header_.cluster_bits;
  const std::uint64_t skip = offset % cluster_size;
  const auto first = look_up(cluster);
  if (!first) return std::unexpected(first.error());
  std::uint64_t run = cluster_size - skip;
  if (first->kind == Qcow2Cluster::Kind::compressed) return Extent{.size = std::min(run, size)};
  // As far as the clusters that follow go on in the same way.
  while (run < size) {
    const auto next = look_up(++cluster);
    if (!next || next->kind != first->kind) break;
    if (first->kind == Qcow2Cluster::Kind::data && next->offset != first->offset + skip + run) break;
    run += cluster_size;
  }
  run = std::min(run, size);
  switch (first->kind) {
    case Qcow2Cluster::Kind::unallocated:
      return map_backing(offset, run);
    case Qcow2Cluster::Kind::data:
      return Extent{.kind = Extent::Kind::file,
                    .size = run,
                    .file = &file_.disk(),
                    .offset = first->offset + skip,
                    .padded = true};
    default:
      return Extent{.kind = Extent::Kind::zeros, .size = run};
  }
}

Result<Extent> Qcow2Image::map_backing(std::uint64_t offset, std::uint64_t size) {
  if (!backing_ || offset >= backing_->size()) return Extent{.kind = Extent::Kind::zeros, .size = size};
  return backing_->map(offset, std::min(size, backing_->size() - offset), Access::read);
}

Result<Extent> Qcow2Image::map_write(std::uint64_t offset, std::uint64_t size) {
  const std::uint64_t cluster_size = header_.cluster_size();
  std::uint64_t cluster = offset >> header_.cluster_bits;
  const std::uint64_t skip = offset % cluster_size;
  const auto first = look_up(cluster);
  if (!first) return std::unexpected(first.error());
  const bool table_copied = (l1_[cluster / header_.l2_entries()] & qcow2::kCopied) != 0;
  const bool in_place = first->in_place() && table_copied;
  std::uint64_t run = cluster_size - skip;
  while (run < size) {
    const auto next = look_up(++cluster);
    if (!next) break;
    const bool next_in_place =
        next->in_place() && (l1_[cluster / header_.l2_entries()] & qcow2::kCopied) != 0;
    if (next_in_place != in_place) break;
    if (in_place && next->offset != first->offset + skip + run) break;
    run += cluster_size;
  }
  run = std::min(run, size);
  if (!in_place) return Extent{.kind = Extent::Kind::slow, .size = run};
  return Extent{.kind = Extent::Kind::file,
                .size = run,
                .file = &file_.disk(),
                .offset = first->offset + skip,
                .padded = true};
}

Result<void> Qcow2Image::read(std::uint64_t offset, std::span<std::byte> into) {
  while (!into.empty()) {
    const auto extent = map_read(offset, into.size());
    if (!extent) return std::unexpected(extent.error());
    const auto part = into.first(extent->size);
    switch (extent->kind) {
      case Extent::Kind::zeros:
        std::ranges::fill(part, std::byte{0});
        break;
      case Extent::Kind::file:
        BALLOON_TRY(extent->padded ? extent->file->read_padded(extent->offset, part)
                                   : extent->file->read(extent->offset, part));
        break;
      case Extent::Kind::slow: {
        const auto cluster = look_up(offset >> header_.cluster_bits);
        if (!cluster) return std::unexpected(cluster.error());
        if (cluster->kind == Qcow2Cluster::Kind::compressed) {
          BALLOON_TRY(read_compressed(*cluster, offset % header_.cluster_size(), part));
        } else {
          BALLOON_TRY(backing_->read(offset, part));  // compressed further down
        }
        break;
      }
    }
    offset += part.size();
    into = into.subspan(part.size());
  }
  return {};
}

Result<void> Qcow2Image::read_compressed(const Qcow2Cluster& cluster, std::size_t skip,
                                         std::span<std::byte> into) {
  if (unpacked_offset_ != cluster.offset) {
    unpacked_offset_.reset();
    std::vector<std::byte> packed(cluster.compressed_size);
    const auto got = file_.disk().read_some(cluster.offset, packed);
    if (!got) return std::unexpected(got.error());
    unpacked_.resize(header_.cluster_size());
    BALLOON_TRY(inflate_into(std::span(packed).first(*got), unpacked_));
    unpacked_offset_ = cluster.offset;
  }
  std::memcpy(into.data(), unpacked_.data() + skip, into.size());
  return {};
}

}  // namespace balloon::vmm
