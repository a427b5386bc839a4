// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "vmm/boot/checked.h"

namespace balloon::vmm {

InputFile::InputFile(UniqueFd fd, std::uint64_t size, std::string name)
    : fd_(std::move(fd)), size_(size), name_(std::move(name)) {}

Result<InputFile> InputFile::open(std::string_view role, const std::string& path) {
  std::string name = fmt::format("{} {}", role, path);
  if (path.empty()) return fail(fmt::format("{}: no path given", role));
  // O_NONBLOCK: a FIFO must be refused below, not waited for here.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail_errno(std::move(name), errno);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(std::move(name), errno);
  if (S_ISDIR(status.st_mode)) return fail(name + ": is a directory");
  if (!S_ISREG(status.st_mode)) return fail(name + ": is not a regular file");
  if (status.st_size == 0) return fail(name + ": the file is empty");
  return InputFile(std::move(fd), static_cast<std::uint64_t>(status.st_size), std::move(name));
}

Result<void> InputFile::require(std::uint64_t offset, std::uint64_t size, std::string_view part) const {
  auto end = checked_add(offset, size);
  if (end && *end <= size_) return {};
  if (!end)
    return fail(
        fmt::format("{}: {} has an impossible place: offset {:#x}, size {:#x}", name_, part, offset, size));
  return fail(fmt::format("{}: truncated: {} needs bytes {} to {}, the file has {} bytes", name_, part,
                          offset, *end, size_));
}

Result<void> InputFile::read(std::uint64_t offset, std::span<std::byte> into, std::string_view part) const {
  BALLOON_TRY(require(offset, into.size(), part));
  std::size_t done = 0;
  while (done < into.size()) {
    ssize_t count =
        ::pread(fd_.get(), into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(fmt::format("{}: reading {}", name_, part), errno);
    if (count == 0) {
      return fail(fmt::format("{}: became shorter while it was read: {} has {} of {} bytes", name_, part,
                              done, into.size()));
    }
    done += static_cast<std::size_t>(count);
  }
  return {};
}

}  // namespace balloon::vmm
