// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/schedule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <optional>
#include <string_view>

namespace balloon::policy::rules {
namespace {

constexpr std::array<std::string_view, 7> kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

std::string clock_text(std::uint16_t minute) { return fmt::format("{:02}:{:02}", minute / 60, minute % 60); }

std::string describe(const Window& window) {
  std::vector<std::string_view> days;
  for (std::size_t day = 0; day < kDays.size(); ++day) {
    if ((window.days >> day & 1U) != 0) days.push_back(kDays.at(day));
  }
  const std::string on = window.days == kEveryDay ? "daily" : fmt::format("{}", fmt::join(days, ", "));
  if (window.from == 0 && window.to == kMinutesADay) return on + " all day";
  return fmt::format("{} {}-{}", on, clock_text(window.from), clock_text(window.to));
}

/// "HH:MM", 00:00 to 24:00.
std::optional<std::uint16_t> parse_clock(std::string_view text) {
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  unsigned hour = 0;
  unsigned minute = 0;
  const auto number = [](std::string_view digits, unsigned& out) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return error == std::errc{} && end == digits.data() + digits.size();
  };
  if (!number(text.substr(0, 2), hour) || !number(text.substr(3), minute) || minute > 59) return std::nullopt;
  if (hour * 60 + minute > kMinutesADay) return std::nullopt;
  return static_cast<std::uint16_t>(hour * 60 + minute);
}

void read_clock(const yaml::Value& value, std::uint16_t& out) {
  std::string text;
  if (!value.read(text)) return;
  const auto minute = parse_clock(text);
  if (!minute)
    return value.complain(fmt::format("'{}' is not a time of day from \"00:00\" to \"24:00\"", text));
  out = *minute;
}

void read_days(const yaml::Value& value, std::uint8_t& out) {
  unsigned days = 0;
  bool good = true;
  const bool listed = value.list([&](const yaml::Value& item) {
    std::string name;
    if (!item.read(name)) {
      good = false;
      return;
    }
    const auto day = std::ranges::find(kDays, name);
    const unsigned bit = day == kDays.end() ? 0 : 1U << (day - kDays.begin());
    good &= bit != 0 && (days & bit) == 0;
    if (bit == 0) item.complain(fmt::format("'{}' is not one of {}", name, fmt::join(kDays, ", ")));
    if ((days & bit) != 0) item.complain(fmt::format("'{}' stands here already", name));
    days |= bit;
  });
  if (!listed || !good) return;
  if (days == 0) return value.complain("no day is named: leave the key out for every day");
  out = static_cast<std::uint8_t>(days);
}

void read_window(const yaml::Value& value, std::vector<Window>& out) {
  value.map([&](yaml::Map& map) {
    Window window;
    bool says = false;
    map.with("days", [&](const yaml::Value& days) {
      says = true;
      read_days(days, window.days);
    });
    map.with("from", [&](const yaml::Value& from) {
      says = true;
      read_clock(from, window.from);
    });
    map.with("to", [&](const yaml::Value& to) {
      says = true;
      read_clock(to, window.to);
    });
    if (!says) map.complain("it is always active: give it days, from or to");
    if (window.from == window.to) {
      map.complain(fmt::format("it is empty: from {} to {}", clock_text(window.from), clock_text(window.to)));
    } else if (window.from > window.to) {
      map.complain(
          fmt::format("it ends before it begins: over midnight write two, {} to 24:00 and 00:00 to {}",
                      clock_text(window.from), clock_text(window.to)));
    }
    out.push_back(window);
  });
}

}  // namespace

WallFace::WallFace(std::chrono::system_clock::time_point at) {
  const std::time_t time = std::chrono::system_clock::to_time_t(std::chrono::floor<std::chrono::seconds>(at));
  const auto face = [](const std::tm& broken) {
    return Face{.day = static_cast<unsigned>((broken.tm_wday + 6) % 7),
                .minute = static_cast<unsigned>(broken.tm_hour * 60 + broken.tm_min)};
  };
  std::tm broken{};
  if (::localtime_r(&time, &broken) != nullptr) local_ = face(broken);
  if (::gmtime_r(&time, &broken) != nullptr) utc_ = face(broken);
}

bool WallFace::in(const When& when) const {
  const Face& face = when.zone == Zone::utc ? utc_ : local_;
  return std::ranges::any_of(when.windows, [&](const Window& window) {
    return (window.days >> face.day & 1U) != 0 && face.minute >= window.from && face.minute < window.to;
  });
}

std::string describe(const When& when) {
  std::vector<std::string> windows;
  for (const Window& window : when.windows) windows.push_back(describe(window));
  return fmt::format("{}{}", fmt::join(windows, ", "), when.zone == Zone::utc ? ", UTC" : "");
}

void read_when(yaml::Map& schedule, When& out) {
  schedule.require("when");
  schedule.with("when", [&](const yaml::Value& value) {
    const bool listed = value.list([&](const yaml::Value& window) { read_window(window, out.windows); });
    if (listed && out.windows.empty()) value.complain("no time is given");
  });
  schedule.with("zone", [&](const yaml::Value& value) {
    std::string zone;
    if (!value.read(zone)) return;
    if (zone != "local" && zone != "UTC")
      return value.complain(fmt::format("'{}' is not one of local, UTC", zone));
    out.zone = zone == "UTC" ? Zone::utc : Zone::local;
  });
}

}  // namespace balloon::policy::rules
