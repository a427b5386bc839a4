// SPDX-License-Identifier: Apache-2.0
// When a rule is active: days and times of day.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/strict_yaml.h"

namespace balloon::policy::rules {

enum class Zone : std::uint8_t { local, utc };

inline constexpr std::uint8_t kEveryDay = 0x7F;
inline constexpr std::uint16_t kMinutesADay = 24 * 60;

/// On its days from the minute `from` to just before the minute `to`.
struct Window {
  std::uint8_t days = kEveryDay;  ///< bit 0 is Monday
  std::uint16_t from = 0;         ///< minutes since midnight
  std::uint16_t to = kMinutesADay;
  bool operator==(const Window&) const = default;
};

/// Active in any of its windows.
struct When {
  std::vector<Window> windows{};
  Zone zone = Zone::local;
  bool operator==(const When&) const = default;
};

/// What a clock on the wall shows here and in UTC. Schedules are to the minute.
class WallFace {
 public:
  explicit WallFace(std::chrono::system_clock::time_point at);
  bool in(const When& when) const;

 private:
  struct Face {
    unsigned day = 0;  ///< 0 is Monday
    unsigned minute = 0;
  };
  Face local_;
  Face utc_;
};

/// "mon, tue 22:00-24:00, sat, sun all day, UTC"
std::string describe(const When& when);

/// Reads `when` and `zone` of a schedule.
void read_when(yaml::Map& schedule, When& out);

}  // namespace balloon::policy::rules
