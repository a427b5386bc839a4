// SPDX-License-Identifier: Apache-2.0
// A file or block device that an image lies on: opened, checked, locked; and blocking I/O of any alignment.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/devices/block/block_device.h"

namespace balloon::vmm {

/// Memory that O_DIRECT takes on every host: aligned to a page.
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 4096;

  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size);
  std::span<std::byte> bytes() const { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte, Free> bytes_;
  std::size_t size_ = 0;
};

class DiskFile {
 public:
  /// How much goes through the bounce buffer at once: large enough for full speed, small beside a guest.
  static constexpr std::size_t kBounceSize = (256 * kKiB).count();

  /// Opens a regular file or block device and locks it against other processes: a writer alone, readers
  /// together. Waits a second for one that lets go of it. The lock goes when it is closed. `direct`:
  /// O_DIRECT.
  static Result<DiskFile> open(const std::string& path, bool read_only, bool direct,
                               BlockLock lock = BlockLock::on);

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  bool read_only() const { return read_only_; }
  bool direct() const { return direct_; }
  /// Of the medium or filesystem: what it writes without reading first.
  std::uint32_t physical_block() const { return physical_block_; }
  /// Where the file ended when it was opened, or the furthest that write() wrote since.
  std::uint64_t end() const { return end_; }
  /// What it takes of its filesystem now; 0: a block device, or not known.
  std::uint64_t allocated() const;

  /// Offsets and sizes that the kernel takes as they are: 1 without O_DIRECT.
  std::uint32_t alignment() const { return alignment_; }
  bool is_aligned(std::uint64_t offset, std::uint64_t size) const;
  bool is_aligned(std::span<const iovec> buffers) const;

  // Blocking, of any alignment: from one thread at a time. A write that is not aligned reads and writes back
  // whole blocks: nothing else may write to those meanwhile.

  /// Reads all of `into`; how much of it there was before the end of the file.
  Result<std::size_t> read_some(std::uint64_t offset, std::span<std::byte> into) const;
  /// Reads all of `into`; fails at the end of the file.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const;
  /// Reads all of `into`; what lies behind the end of the file is zero.
  Result<void> read_padded(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from);
  /// Everything written before is on the medium afterwards.
  Result<void> sync() const;
  /// Whether a sync() failed once: what was written before may be lost, and no later one can tell.
  bool sync_failed() const { return sync_failed_; }
  /// Gives the host back what lies in the range; it reads as zeros then. Whether the host could.
  bool punch(std::uint64_t offset, std::uint64_t size) const;

 private:
  DiskFile() = default;
  Result<void> inspect();
  /// Of a lock that keeps this file from being opened.
  enum class Holder : std::uint8_t { nobody, reader, writer };
  Result<void> lock(BlockLock how) const;
  Result<Holder> try_lock() const;
  Result<void> find_alignment();
  Result<std::size_t> pread_all(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> pwrite_all(std::uint64_t offset, std::span<const std::byte> from);
  std::span<std::byte> bounce() const;

  std::string path_;
  UniqueFd fd_;
  bool read_only_ = false;
  bool direct_ = false;
  std::uint32_t alignment_ = 1;
  std::uint32_t memory_alignment_ = 1;
  std::uint32_t physical_block_ = 512;
  std::uint64_t end_ = 0;
  mutable AlignedBuffer bounce_;
  mutable bool sync_failed_ = false;
};

}  // namespace balloon::vmm
