// What a scheduler asks of a host, by one state: what it can be given, how soon, and who is in the way.
#pragma once

#include <array>
#include <chrono>
#include <string_view>

#include "balloond/control/state.h"

namespace balloon::daemon {

/// A guest that starts asks for memory within seconds, one that is to be moved here within minutes.
struct Horizon {
  std::string_view name;
  std::chrono::seconds time;
};
inline constexpr std::array<Horizon, 3> kHorizons{
    {{"5s", std::chrono::seconds(5)}, {"30s", std::chrono::seconds(30)}, {"5m", std::chrono::minutes(5)}}};

struct Capacity {
  Bytes headroom = 0;  ///< of the budget, what nobody has or is promised
  Bytes bookable = 0;  ///< of the budget, what nobody is guaranteed: what new guests could be
  Bytes deficit = 0;   ///< by how much guarantees exceed the budget: what would have to leave
  Bytes needed = 0;    ///< by guests and reservations together
  /// By horizon: what guests have beyond their need, as far as their balloons can take it in that time.
  std::array<Bytes, kHorizons.size()> reclaimable{};
};

Capacity capacity_of(const State& state);

}  // namespace balloon::daemon
