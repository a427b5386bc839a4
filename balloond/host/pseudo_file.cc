// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/pseudo_file.h"

#include <fcntl.h>

#include <cerrno>
#include <charconv>

namespace balloon::daemon {

namespace {

/// Less than this is all that there was: the kernel gives whole lines, up to a page at a time, and none that
/// is read here is half as long (fs/seq_file.c, seq_read_iter).
constexpr ssize_t kMoreToCome = 2048;

}  // namespace

PseudoFile::PseudoFile(const std::string& path) : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}

std::optional<std::string_view> PseudoFile::read(ReadBuffer& buffer) const {
  std::size_t size = 0;
  while (size < buffer.size()) {
    const ssize_t count =
        ::pread(file_.get(), buffer.data() + size, buffer.size() - size, static_cast<off_t>(size));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::nullopt;
    size += static_cast<std::size_t>(count);
    if (count < kMoreToCome) break;
  }
  return std::string_view(buffer.data(), size);
}

std::optional<std::uint64_t> number_after(std::string_view text, std::string_view key) {
  std::size_t at = 0;
  while ((at = text.find(key, at)) != std::string_view::npos) {
    const bool at_line_start = at == 0 || text[at - 1] == '\n';
    at += key.size();
    if (!at_line_start) continue;
    const std::size_t digits = text.find_first_not_of(" \t", at);
    if (digits == std::string_view::npos || (digits == at && !key.ends_with(':'))) continue;
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data() + digits, text.data() + text.size(), number);
    if (error == std::errc{}) return number;
  }
  return std::nullopt;
}

std::uint64_t kstat_value(std::string_view text, std::string_view name) {
  for (std::size_t at = 0; (at = text.find(name, at)) != std::string_view::npos;) {
    const bool at_line_start = at == 0 || text[at - 1] == '\n';
    at += name.size();
    const std::size_t type = text.find_first_not_of(' ', at);
    if (!at_line_start || type == at) continue;  // a part of another name
    const std::size_t value = text.find_first_not_of(' ', text.find(' ', type));
    std::uint64_t number = 0;
    if (value != std::string_view::npos)
      std::from_chars(text.data() + value, text.data() + text.size(), number);
    return number;
  }
  return 0;
}

policy::Bytes page_size() {
  static const auto size = static_cast<policy::Bytes>(::sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace balloon::daemon
