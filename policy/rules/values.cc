// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace balloon::policy::rules {
namespace {

constexpr std::array<std::string_view, 3> kClasses{"guaranteed", "burstable", "best-effort"};

constexpr std::array<std::string_view, 2> kLimitsOf{"policy", "hypervisor"};

void read_weight(const yaml::Value& value, std::optional<std::uint32_t>& out) {
  std::uint32_t weight = 0;
  if (!value.read(weight, 1, kWeightMax)) return;
  if (weight < 1 || weight > kWeightMax)
    return value.complain(fmt::format("{} is not a weight from 1 to 10000", weight));
  out = weight;
}

void read_class(const yaml::Value& value, std::optional<SloClass>& out) {
  std::string name;
  if (!value.read(name)) return;
  const auto found = std::ranges::find(kClasses, name);
  if (found == kClasses.end())
    return value.complain(fmt::format("'{}' is not one of {}", name, fmt::join(kClasses, ", ")));
  out = static_cast<SloClass>(found - kClasses.begin());
}

void read_limits(const yaml::Value& value, std::optional<LimitsOf>& out) {
  std::string name;
  if (!value.read(name)) return;
  const auto found = std::ranges::find(kLimitsOf, name);
  if (found == kLimitsOf.end())
    return value.complain(fmt::format("'{}' is not one of {}", name, fmt::join(kLimitsOf, ", ")));
  out = static_cast<LimitsOf>(found - kLimitsOf.begin());
}

void read_margin_factor(const yaml::Value& value, std::optional<double>& out) {
  double factor = 0;
  if (!value.read(factor)) return;
  if (factor < 0 || factor > kMarginFactorMax)
    return value.complain(fmt::format("{:g} is not a factor from 0 to 4", factor));
  out = factor;
}

/// Returns where min stands, else max.
std::optional<yaml::Value> read_values(yaml::Map& map, const LayerWords& words, Values& out) {
  std::optional<yaml::Value> at;
  const auto read_size = [&at](const SizeWords& size_words, std::optional<SizeRule>& rule) {
    return [&at, &size_words, &rule](const yaml::Value& value) {
      SizeRule size;
      read_size_rule(value, size_words, size);
      if (size != SizeRule{}) rule = size;
      at = value;
    };
  };
  map.with("max", read_size(words.max, out.max));
  map.with("min", read_size(words.min, out.min));
  if (out.min && out.max) {
    if (const auto complaint = contradiction(*out.min, *out.max)) at->complain(*complaint);
  }
  map.with("weight", [&](const yaml::Value& value) { read_weight(value, out.weight); });
  if (!words.guest) return at;
  map.with("class", [&](const yaml::Value& value) { read_class(value, out.slo_class); });
  map.with("ksm", [&](const yaml::Value& value) { out.ksm = read_switch(value); });
  map.with("margin_factor", [&](const yaml::Value& value) { read_margin_factor(value, out.margin_factor); });
  map.with("control", [&](const yaml::Value& value) { out.control = read_switch(value); });
  map.with("limits", [&](const yaml::Value& value) { read_limits(value, out.limits); });
  return at;
}

void read_schedule(const yaml::Value& value, const LayerWords& words, std::vector<Schedule>& out,
                   LayerSpots& spots) {
  value.map([&](yaml::Map& map) {
    Schedule schedule{.place = {.path = value.path(), .line = value.line()}};
    read_when(map, schedule.when);
    read_values(map, words, schedule.values);
    if (schedule.values.empty()) {
      map.complain(fmt::format("it changes nothing: give it {}",
                               words.guest ? "min, max, weight, class, ksm, margin_factor, control or limits"
                                           : "min, max or weight"));
    }
    out.push_back(std::move(schedule));
    spots.schedules.push_back(value);
  });
}

}  // namespace

std::optional<bool> read_switch(const yaml::Value& value) {
  bool on = false;
  if (!value.read(on)) return std::nullopt;
  return on;
}

std::string_view name_of(LimitsOf limits) { return kLimitsOf.at(static_cast<std::size_t>(limits)); }

std::string_view name_of(SloClass slo_class) { return kClasses.at(static_cast<std::size_t>(slo_class)); }

const Values& values_of(SloClass slo_class) {
  static const std::array<Values, 3> values{
      Values{.min = SizeRule{.ratio = 1}, .max = SizeRule{.ratio = 1}, .weight = 400, .margin_factor = 1.5},
      Values{.weight = 100, .margin_factor = 1}, Values{.weight = 25, .margin_factor = 0.5}};
  return values.at(static_cast<std::size_t>(slo_class));
}

const Values& built_in_values() {
  static const Values values{.min = SizeRule{.linux_floor = true},
                             .max = SizeRule{.ratio = 1},
                             .weight = 100,
                             .slo_class = SloClass::burstable,
                             .ksm = true,
                             .margin_factor = 1,
                             .control = true,
                             .limits = LimitsOf::policy};
  return values;
}

const Schedule* Layer::active(const WallFace& face) const {
  const auto found =
      std::ranges::find_if(schedules, [&](const Schedule& schedule) { return face.in(schedule.when); });
  return found == schedules.end() ? nullptr : &*found;
}

LayerSpots read_layer(yaml::Map& map, const LayerWords& words, Layer& out) {
  out.place = {.path = map.self().path(), .line = map.self().line()};
  LayerSpots spots;
  spots.limit = read_values(map, words, out.values);
  map.with("schedules", [&](const yaml::Value& value) {
    const bool listed = value.list(
        [&](const yaml::Value& schedule) { read_schedule(schedule, words, out.schedules, spots); });
    if (listed && out.schedules.empty()) value.complain("no schedule is given");
  });
  return spots;
}

std::optional<std::string> contradiction(const SizeRule& min, const SizeRule& max) {
  const bool fixed = min.bytes != Bytes{0} && max.bytes != Bytes{0};
  const bool shares = min.ratio != 0 && max.ratio != 0;
  if ((fixed && min.bytes > max.bytes) || (shares && min.ratio > max.ratio))
    return fmt::format("min {} is above max {}", describe(min), describe(max));
  return std::nullopt;
}

}  // namespace balloon::policy::rules
