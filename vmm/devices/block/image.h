// A raw disk image: opened, checked and locked.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

class Image {
 public:
  /// Opens a regular file or block device whose size is a multiple of 512, and locks it against other
  /// processes: a writer alone, readers together. The lock goes when the image is closed.
  static Result<Image> open(const std::string& path, bool read_only);

  /// When it was opened.
  Bytes size() const { return size_; }

  /// Each transfers all of `iovecs` (and changes them), or fails. `done` is how many bytes it transferred
  /// either way.
  Result<void> read(std::span<iovec> iovecs, std::uint64_t offset, std::uint64_t& done) const;
  Result<void> write(std::span<iovec> iovecs, std::uint64_t offset, std::uint64_t& done) const;
  /// Everything written before is on the medium afterwards.
  Result<void> flush() const;

 private:
  Image(UniqueFd fd, Bytes size) : fd_(std::move(fd)), size_(size) {}
  UniqueFd fd_;
  Bytes size_;
};

}  // namespace balloon::vmm
