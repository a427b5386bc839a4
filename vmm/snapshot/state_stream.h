// SPDX-License-Identifier: Apache-2.0
// State as bytes: what every part of a machine writes itself to, and reads itself from. Parts are named, so
// that a reader that is off the track stops with a name and not with nonsense. Little-endian, in the layout
// of this build's structures: the file's version changes with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"

namespace balloon::vmm {

class StateWriter {
 public:
  /// What follows belongs to `name`.
  void section(std::string_view name) { text(name); }

  template <typename T>
    requires std::is_trivially_copyable_v<T>
  void put(const T& value) {
    raw(std::as_bytes(std::span(&value, 1)));
  }
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  void list(std::span<const T> values) {
    put(static_cast<std::uint64_t>(values.size()));
    raw(std::as_bytes(values));
  }
  template <typename T>
  void list(const std::vector<T>& values) {
    list(std::span<const T>(values));
  }
  void text(std::string_view value) { list(std::span<const char>(value)); }

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  // A plain loop: GCC 12 takes an insert() for an overflow.
  void raw(std::span<const std::byte> bytes) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + bytes.size());
    if (!bytes.empty()) std::memcpy(bytes_.data() + at, bytes.data(), bytes.size());
  }
  std::vector<std::byte> bytes_;
};

/// What it reads may be anything: every length is checked, and after the first error everything reads as
/// zero.
class StateReader {
 public:
  explicit StateReader(std::span<const std::byte> bytes) : left_(bytes) {}

  /// Fails when another part comes next, or something before was wrong.
  Result<void> section(std::string_view name) {
    const std::string found = text();
    if (!error_.empty()) return fail(error_);
    if (found != name) {
      error_ = "the part '" + std::string(name) + "' is missing: '" + found.substr(0, 64) +
               "' stands in its place";
      return fail(error_);
    }
    part_ = name;
    return {};
  }

  template <typename T>
    requires std::is_trivially_copyable_v<T>
  T get() {
    T value{};
    raw(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  std::vector<T> list() {
    const auto count = get<std::uint64_t>();
    if (count > left_.size() / sizeof(T)) {
      broken();
      return {};
    }
    std::vector<T> values(count);
    raw(std::as_writable_bytes(std::span(values)));
    return values;
  }
  std::string text() {
    const auto characters = list<char>();
    return {characters.begin(), characters.end()};
  }

  /// What went wrong so far.
  Result<void> check() const {
    if (!error_.empty()) return fail(error_);
    return {};
  }
  bool at_end() const { return left_.empty(); }

 private:
  void raw(std::span<std::byte> into) {
    if (!error_.empty() || into.size() > left_.size()) return broken();
    if (!into.empty()) std::memcpy(into.data(), left_.data(), into.size());
    left_ = left_.subspan(into.size());
  }
  void broken() {
    if (error_.empty())
      error_ = part_.empty() ? "the state ends too early" : "the part '" + part_ + "' ends too early";
    left_ = {};
  }

  std::span<const std::byte> left_;
  std::string part_;
  std::string error_;
};

}  // namespace balloon::vmm
