// SPDX-License-Identifier: Apache-2.0
// A file of /proc or /sys, opened once and read again and again without allocating.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "policy/types.h"

namespace balloon::daemon {

/// Holds the largest file that the daemon reads: /proc/vmstat, some 6 KiB on Linux 6.12.
using ReadBuffer = std::array<char, 16384>;

class PseudoFile {
 public:
  /// A file that cannot be opened reads as nothing.
  explicit PseudoFile(const std::string& path);
  /// The text now, in `buffer`; nothing when it cannot be read.
  std::optional<std::string_view> read(ReadBuffer& buffer) const;
  bool is_open() const { return static_cast<bool>(file_); }

 private:
  UniqueFd file_;
};

/// The number after `key` at the start of a line, blanks between; nothing when there is none.
std::optional<std::uint64_t> number_after(std::string_view text, std::string_view key);

/// The value of a kstat of ZFS, whose lines are a name, a type and the value; 0 when there is none.
std::uint64_t kstat_value(std::string_view text, std::string_view name);

/// The kernel counts swap, KSM and refaults in pages of this host.
policy::Bytes page_size();

}  // namespace balloon::daemon
