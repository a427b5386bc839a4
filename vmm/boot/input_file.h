// SPDX-License-Identifier: Apache-2.0
// A regular file to boot from, read piece by piece straight to where each piece belongs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

class InputFile {
 public:
  /// `role` names the file in errors: "kernel", "initrd". Refuses what is absent, a directory, no regular
  /// file, or empty.
  static Result<InputFile> open(std::string_view role, const std::string& path);

  std::uint64_t size() const { return size_; }
  /// "kernel /path", for error messages.
  const std::string& name() const { return name_; }

  /// Fills `into` from `offset`. `part` names what is read; the error says how much of it the file has.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into, std::string_view part) const;

  template <typename T>
    requires std::is_trivially_copyable_v<T>
  Result<T> read(std::uint64_t offset, std::string_view part) const {
    T value;
    BALLOON_TRY(read(offset, std::as_writable_bytes(std::span(&value, 1)), part));
    return value;
  }

  /// Fails unless the file has [offset, offset + size).
  Result<void> require(std::uint64_t offset, std::uint64_t size, std::string_view part) const;

 private:
  InputFile(UniqueFd fd, std::uint64_t size, std::string name);
  UniqueFd fd_;
  std::uint64_t size_ = 0;
  std::string name_;
};

}  // namespace balloon::vmm
