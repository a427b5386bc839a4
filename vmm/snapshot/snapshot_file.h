// SPDX-License-Identifier: Apache-2.0
// A snapshot's file: a header, the machine's state, the used pages of its memory, an end mark; each with a
// checksum. A file appears under its name whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// Changes with any change of what is in a snapshot. Other versions are refused.
inline constexpr std::uint32_t kSnapshotVersion = 4;

struct SnapshotSize {
  Bytes memory{};  ///< bytes of guest memory in the file
  Bytes file{};
};

/// Writes it beside `path`, flushes it to the medium, and renames it to `path`. Nothing may change `memory`
/// meanwhile. Fails as soon as `given_up` says so.
Result<SnapshotSize> write_snapshot(
    const std::string& path, const std::vector<std::byte>& state, const GuestMemory& memory,
    const std::function<bool()>& given_up = [] { return false; });

class SnapshotFile {
 public:
  /// Opens it and checks header and state. Fails with what is wrong with it.
  static Result<SnapshotFile> open(const std::string& path);

  const std::vector<std::byte>& state() const { return state_; }
  /// Fills `memory`, which is of zeros. Fails when a page is damaged, missing or outside of it.
  Result<void> load_memory(const GuestMemory& memory);

 private:
  SnapshotFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Result<void> read(std::span<std::byte> into, const char* what);
  std::string path_;
  UniqueFd fd_;
  std::vector<std::byte> state_;
};

}  // namespace balloon::vmm
