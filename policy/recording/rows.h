// SPDX-License-Identifier: Apache-2.0
// Rows of fields: each field is kept as the difference to what was to be expected of it, and takes no room
// but a bit when it is just that. One list of fields (fields.h) serves to write, to read and to compare.
#pragma once

#include <bit>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

#include "base/pages.h"
#include "policy/recording/wire.h"

namespace balloon::policy::recording {

/// Sizes mostly change by whole pages, times (the guests' kernels') are often whole microseconds.
inline constexpr std::uint64_t kSizeUnit = kPageSize.count();
inline constexpr std::uint64_t kTimeUnit = 1000;
/// A row begins with a bit for each eight fields, then has eight bits for those eights that are not as
/// expected.
inline constexpr unsigned kRowMax = 64;

template <typename T>
concept SizeOrCount = std::same_as<T, Bytes> || std::unsigned_integral<T>;

template <typename T>
std::uint64_t as_bits(T value) {
  if constexpr (std::is_same_v<T, double>) {
    return std::bit_cast<std::uint64_t>(value);
  } else if constexpr (std::is_same_v<T, std::chrono::nanoseconds>) {
    return static_cast<std::uint64_t>(value.count());
  } else {  // a size, a count or an enum
    return static_cast<std::uint64_t>(value);
  }
}

class RowWriter {
 public:
  explicit RowWriter(std::string& out) : out_(out) {}

  void begin() {
    payload_.clear();
    changed_ = 0;
    at_ = 0;
  }
  void end();

  /// `before`: of the row before; `expected`: by whatever is known already.
  template <SizeOrCount T>
  void number(const T& now, const T& /*before*/, T expected) {
    difference(as_bits(now), as_bits(expected), kSizeUnit);
  }
  void time(const std::chrono::nanoseconds& now, const std::chrono::nanoseconds& /*before*/,
            std::chrono::nanoseconds expected) {
    difference(as_bits(now), as_bits(expected), kTimeUnit);
  }
  void flag(const bool& now, bool before) { difference(now ? 1 : 0, before ? 1 : 0, 1); }
  template <typename E>
  void name(const E& now, E before, E /*last*/) {
    difference(as_bits(now), as_bits(before), 1);
  }
  void real(const double& now, double before) {
    if (!changes(as_bits(now) != as_bits(before))) return;
    for (int shift = 0; shift < 64; shift += 8) payload_.push_back(static_cast<char>(as_bits(now) >> shift));
  }
  void text(const std::string& now, const std::string& before) {
    if (changes(now != before)) put_text(payload_, now);
  }

 private:
  bool changes(bool changed) {
    if (changed) changed_ |= std::uint64_t{1} << at_;
    ++at_;
    return changed;
  }
  void difference(std::uint64_t now, std::uint64_t expected, std::uint64_t unit) {
    if (changes(now != expected)) put_difference(payload_, now - expected, unit);
  }

  std::string& out_;
  std::string payload_;
  std::uint64_t changed_ = 0;
  unsigned at_ = 0;
};

class RowReader {
 public:
  explicit RowReader(Input& in) : in_(in) {}

  void begin();
  void end() {}

  template <SizeOrCount T>
  void number(T& now, const T& /*before*/, T expected) {
    const std::uint64_t value = difference(as_bits(expected), kSizeUnit);
    now = static_cast<T>(value);
    if (as_bits(now) != value) in_.spoil();
  }
  void time(std::chrono::nanoseconds& now, const std::chrono::nanoseconds& /*before*/,
            std::chrono::nanoseconds expected) {
    now = std::chrono::nanoseconds(static_cast<std::int64_t>(difference(as_bits(expected), kTimeUnit)));
  }
  void flag(bool& now, bool before) {
    const std::uint64_t value = difference(before ? 1 : 0, 1);
    now = value == 1;
    if (value > 1) in_.spoil();
  }
  template <typename E>
  void name(E& now, E before, E last) {
    const std::uint64_t value = difference(as_bits(before), 1);
    if (value > as_bits(last)) return in_.spoil();
    now = static_cast<E>(value);
  }
  void real(double& now, double before) { now = changed() ? std::bit_cast<double>(in_.fixed64()) : before; }
  void text(std::string& now, const std::string& before) {
    if (changed()) {
      now = in_.text();
    } else {
      now = before;
    }
  }

 private:
  bool changed() { return (changed_ >> at_++ & 1) != 0; }
  std::uint64_t difference(std::uint64_t expected, std::uint64_t unit) {
    return changed() ? expected + in_.difference(unit) : expected;
  }

  Input& in_;
  std::uint64_t changed_ = 0;
  unsigned at_ = 0;
};

/// Whether two rows are the same, bit by bit: so a NaN is itself, and -0 is not 0.
class RowComparer {
 public:
  bool same() const { return same_; }

  void begin() {}
  void end() {}
  template <SizeOrCount T>
  void number(const T& one, const T& other, T /*expected*/) {
    same_ &= one == other;
  }
  void time(const std::chrono::nanoseconds& one, const std::chrono::nanoseconds& other,
            std::chrono::nanoseconds /*expected*/) {
    same_ &= one == other;
  }
  void flag(const bool& one, bool other) { same_ &= one == other; }
  template <typename E>
  void name(const E& one, E other, E /*last*/) {
    same_ &= one == other;
  }
  void real(const double& one, double other) { same_ &= as_bits(one) == as_bits(other); }
  void text(const std::string& one, const std::string& other) { same_ &= one == other; }

 private:
  bool same_ = true;
};

}  // namespace balloon::policy::recording
