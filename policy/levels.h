// SPDX-License-Identifier: Apache-2.0
// The levels of memory that mean something to one guest, from its guaranteed minimum up to its maximum.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "policy/types.h"

namespace balloon::policy {

/// Lowest first, and so by how dear memory below it is: what is between two levels is worth less to the guest
/// than what is below the lower one.
enum class Level : std::uint8_t {
  minimum,      ///< guaranteed
  working_set,  ///< in use by programs, with most of the page cache in use: less means swapping
  need,         ///< with margin and all page cache in use
  claim,    ///< when it grows, where it is taken to be going: what others free for it, if it is free in them
  peak,     ///< what it needed at its peaks of late and may need again
  cache,    ///< with all the page cache that it has
  wanted,   ///< with room for the files that it reads without keeping them: what it is given of free memory
  maximum,  ///< what it may have at all
};
inline constexpr std::size_t kLevels = 8;

/// A size for each level. None is below the one before it, whatever it was made from.
class Levels {
 public:
  using Sizes = std::array<Bytes, kLevels>;

  /// All nothing.
  Levels() = default;
  /// By level, lowest first: each is raised to the one before it where it is below that.
  explicit Levels(const Sizes& sizes) : sizes_(sizes) { raise(Bytes{}); }
  /// All of them `size`: of a guest that cannot be moved.
  static Levels all_at(Bytes size) {
    Levels levels;
    levels.sizes_.fill(size);
    return levels;
  }

  Bytes operator[](Level level) const { return sizes_[static_cast<std::size_t>(level)]; }

  /// The levels of several together.
  Levels& operator+=(const Levels& other) {
    for (std::size_t i = 0; i < kLevels; ++i) sizes_[i] = add(sizes_[i], other.sizes_[i]);
    return *this;
  }
  /// None above `most`.
  Levels at_most(Bytes most) const {
    Sizes sizes = sizes_;
    for (Bytes& size : sizes) size = std::min(size, most);
    return Levels(sizes);
  }
  /// None below `least`.
  Levels at_least(Bytes least) const {
    Levels levels = *this;
    levels.raise(least);
    return levels;
  }

  bool operator==(const Levels&) const = default;

 private:
  /// Each to `least` and to the one before it. As numbers, which stay in a register: std::max of two Bytes
  /// goes through memory, and this is asked of each guest each time.
  void raise(Bytes least) {
    std::uint64_t low = least.count();
    for (Bytes& size : sizes_) size = Bytes{low = std::max(low, size.count())};
  }

  Sizes sizes_{};
};

}  // namespace balloon::policy
