// SPDX-License-Identifier: Apache-2.0
// What a disk is made of: an image, which says where its bytes lie. All calls come from one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "vmm/devices/block/block_config.h"
#include "vmm/devices/block/block_control.h"
#include "vmm/devices/block/disk_file.h"

namespace balloon::vmm {

/// Where a run of an image's bytes lies.
struct Extent {
  enum class Kind {
    file,   ///< in `file` from `offset` on: whoever asked may transfer it there
    zeros,  ///< nowhere: it reads as zeros
    slow,   ///< the image has to do it itself: read(), write(), zero() or discard()
  };
  Kind kind = Kind::slow;
  std::uint64_t size = 0;
  const DiskFile* file = nullptr;
  std::uint64_t offset = 0;
  bool padded = false;  ///< what lies behind the file's end reads as zeros, rather than being an error
};

class Image {
 public:
  enum class Access { read, write, zero, discard };

  virtual ~Image() = default;
  virtual std::string_view format() const = 0;
  virtual std::uint64_t size() const = 0;
  /// The file that writes go to.
  virtual DiskFile& file() = 0;
  /// From any thread: of what does not change while it is open, and of the file.
  virtual ImageInfo info() const = 0;
  /// What a discard gives back at once; smaller ones are of no use.
  virtual std::uint64_t discard_granularity() const = 0;

  /// Where the first bytes of the range lie; at least one byte, at most `size`. The caller keeps the range
  /// within the image.
  virtual Result<Extent> map(std::uint64_t offset, std::uint64_t size, Access access) = 0;
  /// Whether map() of the range, to read or write, finds out without waiting for the host's disk. To zero or
  /// discard it never waits.
  virtual bool maps_at_once(std::uint64_t offset, std::uint64_t size) const = 0;

  // Blocking, whatever map() says of the range.
  virtual Result<void> read(std::uint64_t offset, std::span<std::byte> into) = 0;
  virtual Result<void> write(std::uint64_t offset, std::span<const std::byte> from) = 0;
  /// The range reads as zeros afterwards; `may_unmap`: and need not keep its place on the host.
  virtual Result<void> zero(std::uint64_t offset, std::uint64_t size, bool may_unmap) = 0;
  /// The guest does not need what is in the range.
  virtual Result<void> discard(std::uint64_t offset, std::uint64_t size) = 0;
  /// Whether there are changes to the image's own tables that flush() has to write.
  virtual bool has_changes() const = 0;
  /// Everything written before is on the medium afterwards. `idle`: nothing that map() told is in use any
  /// more.
  virtual Result<void> flush(bool idle) = 0;
  /// Whether so much has been freed that an idle flush() is due.
  virtual bool wants_idle() const = 0;
};

Result<std::unique_ptr<Image>> open_raw(const std::string& path, bool read_only, bool direct,
                                        BlockLock lock = BlockLock::on);
/// Backing files: `depth` more are allowed, of those that are `allowed`. A relative name is relative to the
/// directory of the image that names it.
Result<std::unique_ptr<Image>> open_qcow2(const std::string& path, bool read_only, bool direct,
                                          BackingFiles allowed, int depth, BlockLock lock = BlockLock::on);

/// Chains longer than this are slow to read, or a mistake.
inline constexpr int kMaxBackingDepth = 16;

/// Opens the image as the configuration says; every error names the file.
Result<std::unique_ptr<Image>> open_image(const BlockConfig& config);

}  // namespace balloon::vmm
