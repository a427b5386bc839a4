// SPDX-License-Identifier: Apache-2.0
// How records are laid out beyond their rows.
#pragma once

#include "policy/recording/rows.h"

namespace balloon::policy::recording {

/// The first byte of a payload.
enum class Kind : std::uint8_t { start = 1, tunables = 2, tick = 3 };

/// Of a guest that was not there in the tick before.
inline constexpr std::size_t kNowhere = ~std::size_t{0};
/// Labels of one guest: what the daemon takes (64), with room.
inline constexpr std::size_t kLabelsMax = 256;
/// Guests of one host; 10,000 is what the engine is made for.
inline constexpr std::size_t kGuestsMax = 1 << 16;

/// Which of a tick's lists are written anew.
struct Changes {
  bool guests = false;
  bool groups = false;
  bool reservations = false;
  bool grants = false;

  std::uint8_t bits() const {
    return static_cast<std::uint8_t>((guests ? 1 : 0) | (groups ? 2 : 0) | (reservations ? 4 : 0) |
                                     (grants ? 8 : 0));
  }
  static Changes of(std::uint8_t bits) {
    return {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0};
  }
};

template <typename Coder, typename Number, typename Wall, typename At>
void code_head(Coder& coder, Number& number, std::uint64_t number_before, Wall& wall,
               std::chrono::milliseconds wall_before, At& at, std::chrono::nanoseconds at_before) {
  using std::chrono::milliseconds;
  using std::chrono::nanoseconds;
  coder.begin();
  coder.number(number, number_before, number_before + 1);
  coder.time(at, at_before, at_before);
  // Both clocks mostly go alike.
  const std::uint64_t passed = as_bits(at) - as_bits(at_before);
  const std::uint64_t expected = static_cast<std::uint64_t>(wall_before.count()) + passed / 1'000'000;
  std::uint64_t count = static_cast<std::uint64_t>(wall.count());
  coder.number(count, std::uint64_t{0}, expected);
  if constexpr (!std::is_const_v<Wall>) wall = milliseconds(static_cast<std::int64_t>(count));
  coder.end();
}

}  // namespace balloon::policy::recording
