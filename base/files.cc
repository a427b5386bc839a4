// SPDX-License-Identifier: Apache-2.0
#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "base/unique_fd.h"

namespace balloon {
namespace {

namespace fs = std::filesystem;

constexpr fs::perms kDirectoryMode = fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec;

Result<void> write_all(const UniqueFd& file, const std::string& path, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(file.get(), text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail_errno("cannot write " + path, count < 0 ? errno : ENOSPC);
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  if (::fsync(file.get()) != 0) return fail_errno("cannot sync " + path, errno);
  return {};
}

Result<void> write_new(const std::string& path, std::string_view text, mode_t mode) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!file) return fail_errno("cannot make " + path, errno);
  return write_all(file, path, text);
}

/// A rename is on the disk when its directory is.
Result<void> sync_directory_of(const std::string& path) {
  const std::string directory = fs::path(path).parent_path().string();
  const UniqueFd file(
      ::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file || ::fsync(file.get()) != 0) return fail_errno("cannot sync the directory of " + path, errno);
  return {};
}

}  // namespace

Result<void> make_directory(const std::string& path) {
  std::error_code error;
  if (!fs::create_directories(path, error)) {
    if (error) return fail(fmt::format("cannot make {}: {}", path, error.message()));
    return {};
  }
  fs::permissions(path, kDirectoryMode, error);
  return {};
}

Result<void> replace_file(const std::string& path, std::string_view text, mode_t mode) {
  const std::string beside = path + ".new";
  auto written = write_new(beside, text, mode);
  if (written && ::rename(beside.c_str(), path.c_str()) != 0)
    written = fail_errno("cannot rename " + beside + " to " + path, errno);
  if (!written) {
    ::unlink(beside.c_str());  // on a full disk it is in the way
    return written;
  }
  return sync_directory_of(path);
}

Result<std::optional<std::string>> read_file(const std::string& path, std::size_t limit) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT) return std::nullopt;
    return fail_errno("cannot open " + path, errno);
  }
  std::string text;
  std::array<char, 4096> part{};
  while (text.size() <= limit) {
    const ssize_t count = ::read(file.get(), part.data(), part.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("cannot read " + path, errno);
    if (count == 0) return text;
    text.append(part.data(), static_cast<std::size_t>(count));
  }
  return fail(fmt::format("{} is longer than {} bytes", path, limit));
}

}  // namespace balloon
