// SPDX-License-Identifier: Apache-2.0
// A qcow2 image, read and written. What it writes, and when, so that a crash at any moment loses nothing that
// was flushed and damages nothing:
//   a write to a new place     the data; then, in memory, the reference to it
//   flush                      reference counts; barrier; L2 and L1 tables; barrier
//   freed clusters             their counts go down, and they are used again, only behind the second barrier
// What a crash can leave are clusters that are counted and not referenced: lost room, which qemu-img check -r
// leaks finds again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/devices/block/image.h"
#include "vmm/devices/block/metadata_cache.h"
#include "vmm/devices/block/qcow2_file.h"
#include "vmm/devices/block/qcow2_format.h"
#include "vmm/devices/block/qcow2_refcounts.h"

namespace balloon::vmm {

class Qcow2Image final : public Image {
 public:
  static Result<std::unique_ptr<Qcow2Image>> open(const std::string& path, bool read_only, bool direct,
                                                  BackingFiles allowed, int depth, BlockLock lock);
  ~Qcow2Image() override;
  Qcow2Image(const Qcow2Image&) = delete;
  Qcow2Image& operator=(const Qcow2Image&) = delete;

  std::string_view format() const override { return "qcow2"; }
  std::uint64_t size() const override { return header_.size; }
  DiskFile& file() override { return file_.disk(); }
  ImageInfo info() const override;
  std::uint64_t discard_granularity() const override { return header_.cluster_size(); }

  Result<Extent> map(std::uint64_t offset, std::uint64_t size, Access access) override;
  bool maps_at_once(std::uint64_t offset, std::uint64_t size) const override;
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) override;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from) override;
  Result<void> zero(std::uint64_t offset, std::uint64_t size, bool may_unmap) override;
  Result<void> discard(std::uint64_t offset, std::uint64_t size) override;
  bool has_changes() const override;
  Result<void> flush(bool idle) override;
  bool wants_idle() const override;

 private:
  enum class Clear { discard, zero, zero_unmap };

  Qcow2Image(DiskFile file, Qcow2Header header);
  Result<void> load();
  /// What holds a table is no data from now on. Fails, unless the image is only read, when the tables cannot
  /// be.
  Result<void> claim_tables(bool read_only);
  Result<void> check_counted(std::span<const Qcow2File::Range> tables);
  Result<void> open_backing(bool direct, BackingFiles allowed, int depth, BlockLock lock);

  // Guest clusters are numbered from the start of the disk.
  /// What is there; fails when it would lie over a table. All reads and writes of data, and all that is
  /// freed, come by here.
  Result<Qcow2Cluster> look_up(std::uint64_t cluster);
  Result<Extent> map_read(std::uint64_t offset, std::uint64_t size);
  Result<Extent> map_write(std::uint64_t offset, std::uint64_t size);
  Result<Extent> map_backing(std::uint64_t offset, std::uint64_t size);
  Result<void> read_compressed(const Qcow2Cluster& cluster, std::size_t skip, std::span<std::byte> into);

  // qcow2_write.cc
  Result<void> prepare_for_writing();
  /// Writes the start of `from` to new clusters; how much of it.
  Result<std::size_t> write_new(std::uint64_t offset, std::span<const std::byte> from);
  Result<void> write_part(std::uint64_t cluster, std::size_t skip, std::span<const std::byte> from);
  Result<std::uint64_t> write_whole(std::uint64_t cluster, std::span<const std::byte> from);
  /// Where the entry of `cluster` is, in an L2 table that belongs to nobody else; makes one if need be.
  Result<std::uint64_t> entry_place(std::uint64_t cluster);
  Result<std::uint64_t> new_l2_table(std::uint64_t l1_index);
  Result<void> set_entry(std::uint64_t cluster, std::uint64_t entry);
  Result<void> free_later(const Qcow2Cluster& cluster);
  Result<void> clear(std::uint64_t offset, std::uint64_t size, Clear how);
  Result<void> clear_cluster(std::uint64_t cluster, Clear how);
  Result<void> write_tables();
  Result<void> write_l1();
  Result<void> free_now();

  Qcow2File file_;
  Qcow2Header header_;
  Qcow2Refcounts refcounts_;
  MetadataCache l2_;
  std::vector<std::uint64_t> l1_;
  std::vector<bool> l1_changed_;  ///< by 512-byte block
  bool l1_has_changes_ = false;
  std::vector<std::uint64_t>
      freed_;  ///< clusters of the file that nothing refers to once the tables are written
  std::unique_ptr<Image> backing_;

  /// The last compressed cluster that was read: sequential reads ask for one many times.
  std::optional<std::uint64_t> unpacked_offset_;
  std::vector<std::byte> unpacked_;
};

}  // namespace balloon::vmm
