#include "vmm/devices/block/image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "vmm/devices/block/request.h"
#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {
namespace {

Result<Bytes> size_of(int fd) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return fail_errno("reading its size", errno);
  if (S_ISREG(status.st_mode)) return static_cast<Bytes>(status.st_size);
  if (S_ISBLK(status.st_mode)) {
    std::uint64_t size = 0;
    if (::ioctl(fd, BLKGETSIZE64, &size) != 0)
      return fail_errno("reading the size of the block device", errno);
    return size;
  }
  if (S_ISDIR(status.st_mode)) return fail("it is a directory, not an image");
  return fail("it is neither a regular file nor a block device");
}

Result<void> lock(int fd, bool read_only) {
  // Of the open file description: unlike a POSIX lock, it stays when some other descriptor of the file is
  // closed.
  struct flock whole = {};
  whole.l_type = read_only ? F_RDLCK : F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &whole) == 0) return {};
  if (errno != EAGAIN && errno != EACCES) return fail_errno("locking it", errno);
  return fail(
      read_only
          ? "another VMM has it open for writing; stop that one, or give each guest its own image"
          : "another VMM has it open; stop that one, open it read-only in both, or give each guest its own "
            "image");
}

/// Calls `transfer` (preadv or pwritev) until everything is done.
template <typename Transfer>
Result<void> transfer_all(std::span<iovec> iovecs, std::uint64_t offset, std::uint64_t& done,
                          const char* what, Transfer transfer) {
  done = 0;
  while (!iovecs.empty()) {
    const int count = static_cast<int>(std::min<std::size_t>(iovecs.size(), IOV_MAX));
    const ssize_t size = transfer(iovecs.data(), count, static_cast<off_t>(offset + done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno(fmt::format("{} at byte {}", what, offset + done), errno);
    if (size == 0) return fail(fmt::format("{} at byte {}: the image has shrunk", what, offset + done));
    done += static_cast<std::uint64_t>(size);
    iovecs = drop_front(iovecs, static_cast<std::uint64_t>(size));
  }
  return {};
}

}  // namespace

Result<Image> Image::open(const std::string& path, bool read_only) {
  const std::string doing = fmt::format("disk image {}", path);
  // NONBLOCK: opening a FIFO would wait for its other end. It means nothing for files and block devices.
  UniqueFd fd(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == EISDIR) return fail(doing + ": it is a directory, not an image");
  if (!fd) return fail_errno(doing, errno);
  const auto size = size_of(fd.get());
  if (!size) return fail(doing, size.error());
  if (*size == 0) return fail(doing + ": it has 0 bytes; make one, for example with truncate --size 4G");
  if (*size % kSectorSize != 0) {
    return fail(fmt::format("{}: its size of {} bytes is no multiple of {}; is it a raw image?", doing, *size,
                            kSectorSize));
  }
  if (auto locked = lock(fd.get(), read_only); !locked) return fail(doing, locked.error());
  return Image(std::move(fd), *size);
}

Result<void> Image::read(std::span<iovec> iovecs, std::uint64_t offset, std::uint64_t& done) const {
  return transfer_all(iovecs, offset, done, "reading", [this](const iovec* parts, int count, off_t at) {
    return ::preadv(fd_.get(), parts, count, at);
  });
}

Result<void> Image::write(std::span<iovec> iovecs, std::uint64_t offset, std::uint64_t& done) const {
  return transfer_all(iovecs, offset, done, "writing", [this](const iovec* parts, int count, off_t at) {
    return ::pwritev(fd_.get(), parts, count, at);
  });
}

Result<void> Image::flush() const {
  if (::fdatasync(fd_.get()) != 0) return fail_errno("flushing", errno);
  return {};
}

}  // namespace balloon::vmm
