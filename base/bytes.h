// SPDX-License-Identifier: Apache-2.0
// Sizes in bytes: their type, parsing what people write, printing what they can read.
#pragma once

#include <compare>
#include <concepts>
#include <cstdint>
#include <iosfwd>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/error.h"

namespace balloon {

/// A whole number that counts something: pages, guests, parts.
template <typename T>
concept WholeNumber = std::integral<T> && !std::same_as<T, bool>;

/// A size, or how much was read, swapped, freed. Sums, differences and comparisons are with other sizes only,
/// products and quotients with whole numbers only, and how often one size goes into another is a plain
/// number: whatever else mixes a size with a number does not compile. Numbers come in and go out where that
/// is said: `Bytes{answer.total_bytes()}`, `size.count()`, `static_cast<double>(size)`.
///
/// It costs what its std::uint64_t costs, and wraps around as that does: where a difference may be below
/// nothing, or a sum beyond max(), say above() or add().
class Bytes {
 public:
  /// Nothing.
  constexpr Bytes() = default;
  constexpr explicit Bytes(std::uint64_t count) : count_(count) {}
  /// What is left over a whole byte is cut off. The number is one that fits.
  constexpr explicit Bytes(std::floating_point auto count) : count_(static_cast<std::uint64_t>(count)) {}

  static constexpr Bytes max() { return Bytes{std::numeric_limits<std::uint64_t>::max()}; }

  constexpr std::uint64_t count() const { return count_; }
  /// As a number of any kind but bool: `if (size)` does not compile.
  template <typename T>
    requires(std::is_arithmetic_v<T> && !std::same_as<T, bool>)
  constexpr explicit operator T() const {
    return static_cast<T>(count_);
  }

  constexpr auto operator<=>(const Bytes&) const = default;

  constexpr Bytes& operator+=(Bytes other) {
    count_ += other.count_;
    return *this;
  }
  constexpr Bytes& operator-=(Bytes other) {
    count_ -= other.count_;
    return *this;
  }
  constexpr Bytes& operator*=(WholeNumber auto times) {
    count_ *= static_cast<std::uint64_t>(times);
    return *this;
  }
  constexpr Bytes& operator/=(WholeNumber auto parts) {
    count_ /= static_cast<std::uint64_t>(parts);
    return *this;
  }

  friend constexpr Bytes operator+(Bytes a, Bytes b) { return a += b; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return a -= b; }
  friend constexpr Bytes operator*(Bytes size, WholeNumber auto times) { return size *= times; }
  friend constexpr Bytes operator*(WholeNumber auto times, Bytes size) { return size *= times; }
  friend constexpr Bytes operator/(Bytes size, WholeNumber auto parts) { return size /= parts; }
  /// How many whole `b` are in `a`, and what is left then.
  friend constexpr std::uint64_t operator/(Bytes a, Bytes b) { return a.count_ / b.count_; }
  friend constexpr Bytes operator%(Bytes a, Bytes b) { return Bytes{a.count_ % b.count_}; }

 private:
  std::uint64_t count_ = 0;
};

inline constexpr Bytes kKiB{1024};
inline constexpr Bytes kMiB = 1024 * kKiB;
inline constexpr Bytes kGiB = 1024 * kMiB;
inline constexpr Bytes kTiB = 1024 * kGiB;

/// Their sum, at most Bytes::max().
constexpr Bytes add(Bytes a, Bytes b) { return a > Bytes::max() - b ? Bytes::max() : a + b; }
/// By how much `a` is above `b`: nothing where it is not.
constexpr Bytes above(Bytes a, Bytes b) { return a > b ? a - b : Bytes{}; }

/// Parses "512MiB", "2G", "1.5GiB", "4096K". K, M, G, T with or without "iB" are powers of 1024 (as in QEMU's
/// -m). A bare number other than 0 is refused: its unit would be a guess.
Result<Bytes> parse_bytes(std::string_view text);

/// "512 MiB", "1.50 GiB": at most four significant digits.
std::string format_bytes(Bytes bytes);

/// GoogleTest prints a size by this: "1.50 GiB (1610612737 B)".
void PrintTo(Bytes bytes, std::ostream* out);

}  // namespace balloon

/// For templates that take sizes and counts. Without it, max() would be nothing, and compile.
template <>
class std::numeric_limits<balloon::Bytes> {
 public:
  static constexpr bool is_specialized = true;
  static constexpr balloon::Bytes min() noexcept { return {}; }
  static constexpr balloon::Bytes lowest() noexcept { return {}; }
  static constexpr balloon::Bytes max() noexcept { return balloon::Bytes::max(); }
};
