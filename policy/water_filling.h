// SPDX-License-Identifier: Apache-2.0
// Weighted water-filling: max-min fair shares of a budget between lower and upper bounds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/types.h"

namespace balloon::policy {

struct Claim {
  Bytes low{};   ///< guaranteed
  Bytes high{};  ///< wanted; at least low
  std::uint32_t weight = 1;
};

/// Working space of water_fill, kept to be reused.
struct FillSpace {
  /// A level at which one claim starts (or, with a negative slope, ceases) to rise with the water.
  struct Bend {
    double level;
    double slope;
  };
  std::vector<Bend> bends;
};

/// Fills shares[i] = clamp(level · weight, low, high) with the one level for which they add up to `budget`:
/// all of them high when the budget allows, all of them low when it does not even allow that (then they
/// exceed it). Rounded down to 4 KiB but not below low. O(n log n); `shares` is resized, and it and `space`
/// are reused between calls.
void water_fill(std::span<const Claim> claims, Bytes budget, std::vector<Bytes>& shares, FillSpace& space);

}  // namespace balloon::policy
