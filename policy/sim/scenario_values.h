// SPDX-License-Identifier: Apache-2.0
// Reading a scenario's values: names, ratios, speeds.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/strict_yaml.h"
#include "policy/types.h"

namespace balloon::policy::sim {

template <typename T>
using Names = std::span<const std::pair<std::string_view, T>>;

/// Reads one of the names.
template <typename T>
bool choose(const yaml::Value& value, Names<T> names, T& out) {
  std::string text;
  if (!value.read(text)) return false;
  const auto found = std::ranges::find(names, std::string_view(text), &std::pair<std::string_view, T>::first);
  if (found == names.end()) {
    std::string all;
    for (const auto& [name, unused] : names) all += (all.empty() ? "" : ", ") + std::string(name);
    value.complain(fmt::format("expected one of {}, found '{}'", all, text));
    return false;
  }
  out = found->second;
  return true;
}

template <typename T>
void choice(yaml::Map& map, std::string_view key, Names<T> names, T& out) {
  map.with(key, [&](const yaml::Value& value) { choose(value, names, out); });
}

inline void ratio(yaml::Map& map, std::string_view key, double& out) {
  map.with(key, [&](const yaml::Value& value) {
    if (value.read(out) && (out < 0 || out > 1))
      value.complain(fmt::format("expected a ratio from 0 to 1, found {}", out));
  });
}

inline void speed(yaml::Map& map, std::string_view key, double& out) {
  Bytes bytes{};
  if (map.bytes(key, bytes)) out = static_cast<double>(bytes);
}

inline void speed_above_0(yaml::Map& map, std::string_view key, double& out) {
  map.with(key, [&](const yaml::Value& value) {
    Bytes bytes{};
    if (!value.read_bytes(bytes)) return;
    out = static_cast<double>(bytes);
    if (bytes == Bytes{0}) value.complain("expected a speed above 0");
  });
}

inline void positive(yaml::Map& map, std::string_view key, Time& out) {
  map.with(key, [&](const yaml::Value& value) {
    if (value.read(out) && out <= Time{}) value.complain("expected a time above 0");
  });
}

}  // namespace balloon::policy::sim
