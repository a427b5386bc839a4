// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/policy_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "policy/rules/resolve.h"
#include "policy/rules/tunable_keys.h"

namespace balloon::policy::rules {
namespace {

constexpr std::array kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

/// A text that no reader takes for anything else. JSON's escapes are YAML's.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

/// "a.b.c" and values as nested mappings; keys of one mapping follow each other.
std::string nested(const std::vector<std::pair<std::string, std::string>>& values) {
  std::string out;
  std::vector<std::string> open;
  for (const auto& [path, value] : values) {
    std::vector<std::string> parts;
    for (std::size_t from = 0; from <= path.size();) {
      const std::size_t dot = std::min(path.find('.', from), path.size());
      parts.push_back(path.substr(from, dot - from));
      from = dot + 1;
    }
    const auto differs = std::ranges::mismatch(open, parts);
    open.assign(parts.begin(), parts.end() - 1);
    for (auto part = differs.in2; part != parts.end(); ++part) {
      const auto depth = static_cast<std::size_t>(part - parts.begin());
      const bool last = part == parts.end() - 1;
      out += fmt::format("{:{}}{}:{}{}\n", "", 2 * depth, *part, last ? " " : "", last ? value : "");
    }
  }
  return out;
}

std::vector<std::string> values_of(const Values& values) {
  std::vector<std::string> out;
  if (values.min) out.push_back("min: " + describe(*values.min));
  if (values.max) out.push_back("max: " + describe(*values.max));
  if (values.weight) out.push_back(fmt::format("weight: {}", *values.weight));
  if (values.slo_class) out.push_back(fmt::format("class: {}", name_of(*values.slo_class)));
  if (values.ksm) out.push_back(fmt::format("ksm: {}", *values.ksm));
  if (values.margin_factor) out.push_back(fmt::format("margin_factor: {}", *values.margin_factor));
  if (values.control) out.push_back(fmt::format("control: {}", *values.control));
  if (values.limits) out.push_back(fmt::format("limits: {}", name_of(*values.limits)));
  return out;
}

std::string clock(unsigned minutes) { return fmt::format("\"{:02}:{:02}\"", minutes / 60, minutes % 60); }

std::string window_text(const Window& window) {
  std::vector<std::string> days;
  for (std::size_t day = 0; day < kDays.size(); ++day) {
    if ((window.days >> day & 1U) != 0) days.emplace_back(kDays[day]);
  }
  return fmt::format("{{days: [{}], from: {}, to: {}}}", fmt::join(days, ", "), clock(window.from),
                     clock(window.to));
}

/// The layer's keys in one flow mapping, after `first` keys.
std::string layer_text(const Layer& layer, std::vector<std::string> keys = {}) {
  for (std::string& value : values_of(layer.values)) keys.push_back(std::move(value));
  std::vector<std::string> schedules;
  for (const Schedule& schedule : layer.schedules) {
    std::vector<std::string> windows;
    for (const Window& window : schedule.when.windows) windows.push_back(window_text(window));
    std::vector<std::string> all{fmt::format("when: [{}]", fmt::join(windows, ", ")),
                                 schedule.when.zone == Zone::utc ? "zone: UTC" : "zone: local"};
    for (std::string& value : values_of(schedule.values)) all.push_back(std::move(value));
    schedules.push_back(fmt::format("{{{}}}", fmt::join(all, ", ")));
  }
  if (!schedules.empty()) keys.push_back(fmt::format("schedules: [{}]", fmt::join(schedules, ", ")));
  return fmt::format("{{{}}}", fmt::join(keys, ", "));
}

std::string group_text(const PolicyFile& policy, const GroupRule& group) {
  std::vector<std::string> keys{"name: " + quoted(group.name)};
  const auto& line = group.line_of_descent;
  if (line.size() > 1) keys.push_back("inherits: " + quoted(policy.groups.at(line[line.size() - 2]).name));
  const std::string each = layer_text(group.each);
  if (each != "{}") keys.push_back("each: " + each);
  return layer_text(group.own, std::move(keys));
}

std::string guest_text(const PolicyFile& policy, const GuestRule& rule) {
  std::vector<std::string> keys{"name: " + quoted(rule.name)};
  std::vector<std::string> labels;
  for (const auto& [key, value] : rule.labels) labels.push_back(quoted(key) + ": " + quoted(value));
  if (!labels.empty()) keys.push_back(fmt::format("labels: {{{}}}", fmt::join(labels, ", ")));
  if (rule.group) keys.push_back("group: " + quoted(policy.groups.at(*rule.group).name));
  return layer_text(rule.layer, std::move(keys));
}

}  // namespace

std::string policy_text(const PolicyFile& policy) {
  auto values = describe(policy.tunables);
  values.insert(values.begin() + 1, {"host.ksm", policy.ksm ? "true" : "false"});
  const bool yields = policy.other_hands.then == OtherHands::Then::yield;
  values.emplace_back("contested.then", yields ? "yield" : "override");
  values.emplace_back(
      "contested.for",
      fmt::format("{}ms",
                  std::chrono::duration_cast<std::chrono::milliseconds>(policy.other_hands.time).count()));
  values.emplace_back("admission.ram_allocation_ratio", fmt::format("{}", policy.ram_allocation_ratio));
  std::string out = nested(values);
  out += "defaults: " + layer_text(whole_defaults(policy)) + '\n';
  out += policy.groups.empty() ? "groups: []\n" : "groups:\n";
  for (const GroupRule& group : policy.groups) out += "  - " + group_text(policy, group) + '\n';
  out += policy.guests.empty() ? "guests: []\n" : "guests:\n";
  for (const GuestRule& rule : policy.guests) out += "  - " + guest_text(policy, rule) + '\n';
  if (policy.shadow_file) out += "shadow: " + quoted(policy.shadow_file->path) + '\n';
  return out;
}

}  // namespace balloon::policy::rules
