// SPDX-License-Identifier: Apache-2.0
// From whom to take memory that others wait for: first what costs nothing to give, then what costs little.
#pragma once

#include <array>

#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

/// What a guest's memory costs it to give, cheapest first.
enum class Cost : std::uint8_t {
  free,       ///< nobody uses it
  cold,       ///< page cache that has not been missed so far
  hot,        ///< page cache in use: comes back as refaults
  anonymous,  ///< programs' own: goes to the guest's swap
  pressed,    ///< anything of a guest that hurts already
};
inline constexpr std::size_t kCosts = 5;

/// What one guest has beyond its share, by cost.
using Excess = std::array<double, kCosts>;

/// Splits `excess` of a guest's memory: `available` is what it could give without swapping, of which `free`
/// is free and `hot` is cache in use.
Excess split(Bytes excess, Bytes available, Bytes free, Bytes hot, Pressure pressure);

class Reclaim {
 public:
  void clear() { total_ = {}; }
  void add(const Excess& excess);
  /// Asks for `missing` bytes, from the cheapest up to and including `dearest`. Later calls only raise what
  /// is asked.
  void ask(double missing, Cost dearest);
  void ask_everything();
  /// Of this guest's excess, what is asked for. To be called after the asking.
  double asked(const Excess& excess) const;

 private:
  Excess total_{};
  std::array<double, kCosts> part_{};  ///< of each cost, what is asked for
};

}  // namespace balloon::policy::peers::balloond1
