// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/disk_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <new>
#include <thread>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {
namespace {

using std::chrono::milliseconds;

/// A VMM that was killed holds its locks a little longer than its process lives: the kernel first ends what
/// it had given to io_uring (io_ring_exit_work in io_uring/io_uring.c).
constexpr milliseconds kLockPatience(1000);
constexpr milliseconds kLockPause(50);

constexpr std::uint32_t kSmallestBlock = 512;
constexpr std::uint32_t kLargestBlock = 4096;

std::uint64_t align_down(std::uint64_t value, std::uint64_t alignment) {
  return value / alignment * alignment;
}
std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return align_down(value + alignment - 1, alignment);
}

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t size)
    : bytes_(static_cast<std::byte*>(std::aligned_alloc(kAlignment, align_up(size, kAlignment)))),
      size_(size) {
  if (!bytes_) throw std::bad_alloc();
}

Result<DiskFile> DiskFile::open(const std::string& path, bool read_only, bool direct, BlockLock lock) {
  DiskFile file;
  file.path_ = path;
  file.read_only_ = read_only;
  file.direct_ = direct;
  // NONBLOCK: opening a FIFO would wait for its other end. It means nothing for files and block devices.
  const int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
  const int opened = ::open(path.c_str(), flags);
  const int error = opened < 0 ? errno : 0;
  file.fd_ = UniqueFd(opened);
  if (error == EISDIR) return fail("it is a directory, not an image");
  if (error == EROFS) {
    return fail("its filesystem is read-only: open it with readonly, or mount the filesystem for writing");
  }
  if (error != 0) return fail_errno("opening it", error);
  BALLOON_TRY(file.inspect());
  if (lock != BlockLock::off) BALLOON_TRY(file.lock(lock));
  if (direct) {
    if (::fcntl(file.fd(), F_SETFL, flags | O_DIRECT) != 0) {
      return fail_errno(
          "opening it without the host's page cache (cache none), which its filesystem may not know", errno);
    }
    BALLOON_TRY(file.find_alignment());
  }
  return file;
}

Result<void> DiskFile::inspect() {
  struct stat status = {};
  if (::fstat(fd(), &status) != 0) return fail_errno("reading its size", errno);
  if (S_ISREG(status.st_mode)) {
    end_ = static_cast<std::uint64_t>(status.st_size);
    physical_block_ = std::bit_ceil(
        static_cast<std::uint32_t>(std::clamp<blksize_t>(status.st_blksize, kSmallestBlock, kLargestBlock)));
    return {};
  }
  if (S_ISBLK(status.st_mode)) {
    std::uint64_t size = 0;
    if (::ioctl(fd(), BLKGETSIZE64, &size) != 0) {
      return fail_errno("reading the size of the block device", errno);
    }
    end_ = size;
    unsigned physical = 0;
    if (::ioctl(fd(), BLKPBSZGET, &physical) == 0 && std::has_single_bit(physical)) {
      physical_block_ = std::clamp(physical, kSmallestBlock, kLargestBlock);
    }
    return {};
  }
  if (S_ISDIR(status.st_mode)) return fail("it is a directory, not an image");
  return fail("it is neither a regular file nor a block device");
}

Result<void> DiskFile::lock(BlockLock how) const {
  Result<Holder> holder = Holder::nobody;
  for (milliseconds waited{}; waited <= kLockPatience; waited += kLockPause) {
    if (waited != milliseconds::zero()) std::this_thread::sleep_for(kLockPause);
    holder = try_lock();
    if (!holder && how == BlockLock::warn) {
      log::warning("disk image {}: nothing keeps other programs from it: {}", path_, holder.error().message);
      return {};
    }
    if (!holder) {
      return fail(holder.error().message +
                  ": if its filesystem has no locks, and nobody else opens it, say lock=warn or lock=off");
    }
    if (*holder == Holder::nobody) return {};
  }
  return fail(fmt::format("another VMM has it open{}; stop that one, {}give each guest its own image",
                          *holder == Holder::writer ? " for writing" : "",
                          read_only_ ? "or " : "open it read-only in both, or "));
}

Result<DiskFile::Holder> DiskFile::try_lock() const {
  // As QEMU locks images (its block/file-posix.c), so that its programs and this one see each other. Who has
  // an image open holds a byte for each thing that it does, and one for each thing that it does not let
  // others do; all are shared locks. Whether somebody else holds one shows by asking for an exclusive lock.
  // The locks are of the open file description: unlike POSIX locks, they stay when another descriptor of the
  // file is closed.
  constexpr off_t kReads = 100;
  constexpr off_t kWrites = 101;
  constexpr off_t kResizes = 103;
  constexpr off_t kNoWriters = 201;
  constexpr off_t kNoResizers = 203;
  constexpr off_t kFirst = kReads;
  constexpr off_t kEnd = kNoResizers + 1;
  const auto call = [this](int command, short type, off_t byte) -> Result<bool> {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    if (::fcntl(fd(), command, &lock) == 0) return command == F_OFD_SETLK || lock.l_type == F_UNLCK;
    if (errno == EAGAIN || errno == EACCES) return false;
    return fail_errno("locking it", errno);
  };
  const auto taken = [&](std::initializer_list<off_t> bytes, int command, short type) -> Result<bool> {
    for (const off_t byte : bytes) {
      const auto free = call(command, type, byte);
      if (!free || !*free) return free ? Result<bool>(true) : free;
    }
    return false;
  };
  auto conflict = taken({kReads, kNoWriters, kNoResizers}, F_OFD_SETLK, F_RDLCK);
  if (conflict && !*conflict && !read_only_) conflict = taken({kWrites, kResizes}, F_OFD_SETLK, F_RDLCK);
  if (conflict && !*conflict) conflict = taken({kWrites, kResizes}, F_OFD_GETLK, F_WRLCK);
  const bool writer = conflict && *conflict;
  if (conflict && !*conflict && !read_only_)
    conflict = taken({kNoWriters, kNoResizers}, F_OFD_GETLK, F_WRLCK);
  if (!conflict) return std::unexpected(conflict.error());
  if (!*conflict) return Holder::nobody;
  // Nobody else should see what was taken in vain.
  struct flock all = {};
  all.l_type = F_UNLCK;
  all.l_whence = SEEK_SET;
  all.l_start = kFirst;
  all.l_len = kEnd - kFirst;
  if (::fcntl(fd(), F_OFD_SETLK, &all) != 0) return fail_errno("unlocking it", errno);
  return writer ? Holder::writer : Holder::reader;
}

Result<void> DiskFile::find_alignment() {
  // open(2), O_DIRECT: since Linux 6.1 the kernel tells.
  struct statx status = {};
  if (::statx(fd(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_offset_align != 0) {
    alignment_ = status.stx_dio_offset_align;
    memory_alignment_ = status.stx_dio_mem_align;
  } else {
    int logical = 0;
    if (::ioctl(fd(), BLKSSZGET, &logical) != 0) {
      // A regular file on an older kernel: the smallest read that works tells. An empty file takes any.
      logical = static_cast<int>(kSmallestBlock);
      while (logical < static_cast<int>(kLargestBlock) &&
             ::pread(fd(), bounce().data(), static_cast<std::size_t>(logical), 0) < 0 && errno == EINVAL) {
        logical *= 2;
      }
    }
    alignment_ = memory_alignment_ = static_cast<std::uint32_t>(logical);
  }
  if (!std::has_single_bit(alignment_) || !std::has_single_bit(memory_alignment_) ||
      alignment_ > kBounceSize || memory_alignment_ > AlignedBuffer::kAlignment) {
    return fail(
        fmt::format("direct I/O on it needs blocks of {} bytes, which is more than this VMM knows: use "
                    "cache writeback",
                    alignment_));
  }
  return {};
}

std::uint64_t DiskFile::allocated() const {
  struct stat status{};
  if (::fstat(fd(), &status) != 0) return 0;
  constexpr std::uint64_t kStatBlock = 512;  // of st_blocks, whatever the filesystem's own (stat(2))
  return static_cast<std::uint64_t>(status.st_blocks) * kStatBlock;
}

bool DiskFile::is_aligned(std::uint64_t offset, std::uint64_t size) const {
  return ((offset | size) & (alignment_ - 1)) == 0;
}

bool DiskFile::is_aligned(std::span<const iovec> buffers) const {
  if (!direct_) return true;
  return std::ranges::all_of(buffers, [this](const iovec& buffer) {
    return ((reinterpret_cast<std::uintptr_t>(buffer.iov_base)) & (memory_alignment_ - 1)) == 0 &&
           (buffer.iov_len & (alignment_ - 1)) == 0;
  });
}

std::span<std::byte> DiskFile::bounce() const {
  if (bounce_.bytes().empty()) bounce_ = AlignedBuffer(kBounceSize);
  return bounce_.bytes();
}

Result<std::size_t> DiskFile::pread_all(std::uint64_t offset, std::span<std::byte> into) const {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t size =
        ::pread(fd(), into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno(fmt::format("reading at byte {}", offset + done), errno);
    if (size == 0) break;
    done += static_cast<std::size_t>(size);
    // A direct read that ends off a block's border has met the end of the file.
    if (direct_ && !is_aligned(offset + done, 0)) break;
  }
  return done;
}

Result<void> DiskFile::pwrite_all(std::uint64_t offset, std::span<const std::byte> from) {
  std::size_t done = 0;
  while (done < from.size()) {
    const ssize_t size =
        ::pwrite(fd(), from.data() + done, from.size() - done, static_cast<off_t>(offset + done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno(fmt::format("writing at byte {}", offset + done), errno);
    done += static_cast<std::size_t>(size);
    end_ = std::max(end_, offset + done);
  }
  return {};
}

Result<std::size_t> DiskFile::read_some(std::uint64_t offset, std::span<std::byte> into) const {
  const iovec whole{.iov_base = into.data(), .iov_len = into.size()};
  if (is_aligned(offset, into.size()) && is_aligned({&whole, 1})) return pread_all(offset, into);
  const std::span<std::byte> scratch = bounce();
  std::size_t done = 0;
  while (done < into.size()) {
    const std::uint64_t at = offset + done;
    const std::uint64_t start = align_down(at, alignment_);
    const std::size_t skip = at - start;
    const std::size_t size = std::min(align_up(skip + into.size() - done, alignment_), scratch.size());
    const auto got = pread_all(start, scratch.first(size));
    if (!got) return std::unexpected(got.error());
    const std::size_t part = std::min(*got > skip ? *got - skip : 0, into.size() - done);
    if (part > 0) std::memcpy(into.data() + done, scratch.data() + skip, part);
    done += part;
    if (*got < size) break;
  }
  return done;
}

Result<void> DiskFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  const auto got = read_some(offset, into);
  if (!got) return std::unexpected(got.error());
  if (*got < into.size()) return fail(fmt::format("reading at byte {}: the image has shrunk", offset + *got));
  return {};
}

Result<void> DiskFile::read_padded(std::uint64_t offset, std::span<std::byte> into) const {
  const auto got = read_some(offset, into);
  if (!got) return std::unexpected(got.error());
  std::ranges::fill(into.subspan(*got), std::byte{0});
  return {};
}

Result<void> DiskFile::write(std::uint64_t offset, std::span<const std::byte> from) {
  const iovec whole{.iov_base = const_cast<std::byte*>(from.data()), .iov_len = from.size()};
  if (is_aligned(offset, from.size()) && is_aligned({&whole, 1})) return pwrite_all(offset, from);
  const std::span<std::byte> scratch = bounce();
  while (!from.empty()) {
    const std::uint64_t start = align_down(offset, alignment_);
    const std::size_t skip = offset - start;
    const std::size_t size = std::min(align_up(skip + from.size(), alignment_), scratch.size());
    const std::size_t part = std::min(size - skip, from.size());
    if (skip != 0 || part != size) {
      const auto got = pread_all(start, scratch.first(size));
      if (!got) return std::unexpected(got.error());
      std::ranges::fill(scratch.first(size).subspan(*got), std::byte{0});
    }
    std::memcpy(scratch.data() + skip, from.data(), part);
    BALLOON_TRY(pwrite_all(start, scratch.first(size)));
    offset += part;
    from = from.subspan(part);
  }
  return {};
}

Result<void> DiskFile::sync() const {
  if (::fdatasync(fd()) == 0) return {};
  sync_failed_ = true;
  return fail_errno("flushing", errno);
}

bool DiskFile::punch(std::uint64_t offset, std::uint64_t size) const {
  return ::fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                     static_cast<off_t>(size)) == 0;
}

}  // namespace balloon::vmm
