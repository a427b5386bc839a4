// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/policy_diff.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "policy/rules/resolve.h"
#include "policy/rules/tunable_keys.h"

namespace balloon::ctl {
namespace {

using policy::rules::describe;
using policy::rules::exact_bytes;
using policy::rules::GroupRule;
using policy::rules::GuestRule;
using policy::rules::Layer;
using policy::rules::PolicyFile;
using policy::rules::Values;
using policy::rules::whole_defaults;

using Lines = std::vector<std::pair<std::string, std::string>>;

Lines lines_of(const Values& values) {
  Lines out;
  if (values.min) out.emplace_back("min", describe(*values.min));
  if (values.max) out.emplace_back("max", describe(*values.max));
  if (values.weight) out.emplace_back("weight", fmt::format("{}", *values.weight));
  if (values.slo_class) out.emplace_back("class", name_of(*values.slo_class));
  if (values.ksm) out.emplace_back("ksm", *values.ksm ? "on" : "off");
  if (values.margin_factor) out.emplace_back("margin_factor", fmt::format("{}", *values.margin_factor));
  if (values.control) out.emplace_back("control", *values.control ? "on" : "off");
  if (values.limits) out.emplace_back("limits", name_of(*values.limits));
  return out;
}

void add(const std::string& key, const Layer& layer, Lines& out) {
  for (auto& [name, text] : lines_of(layer.values)) out.emplace_back(key + "." + name, std::move(text));
  for (std::size_t i = 0; i < layer.schedules.size(); ++i) {
    std::vector<std::string> values;
    for (const auto& [name, text] : lines_of(layer.schedules[i].values)) values.push_back(name + " " + text);
    out.emplace_back(fmt::format("{}.schedules[{}]", key, i),
                     fmt::format("{}: {}", describe(layer.schedules[i].when), fmt::join(values, ", ")));
  }
}

std::string selector(const GuestRule& rule) {
  std::vector<std::string> parts;
  if (rule.name != "*" || rule.labels.empty()) parts.push_back(rule.name);
  for (const auto& [name, value] : rule.labels) parts.push_back(name + "=" + value);
  return fmt::format("{}", fmt::join(parts, " "));
}

/// Selectors in the order of the file; one that stands there again is numbered.
std::vector<std::string> selectors(const PolicyFile& policy) {
  std::vector<std::string> out;
  std::map<std::string, int> seen;
  for (const GuestRule& rule : policy.guests) {
    const std::string text = selector(rule);
    const int times = ++seen[text];
    out.push_back(times == 1 ? text : fmt::format("{} #{}", text, times));
  }
  return out;
}

Lines lines_of(const PolicyFile& policy) {
  Lines out = describe(policy.tunables);
  out.emplace_back("host.ksm", policy.ksm ? "on" : "off");
  const bool yields = policy.other_hands.then == policy::rules::OtherHands::Then::yield;
  out.emplace_back("contested.then", yields ? "yield" : "override");
  const auto time = std::chrono::duration<double>(policy.other_hands.time);
  out.emplace_back("contested.for", fmt::format("{:g}s", time.count()));
  add("defaults", whole_defaults(policy), out);
  for (const GroupRule& group : policy.groups) {
    const std::string key = fmt::format("groups[{}]", group.name);
    out.emplace_back(key, "defined");
    const auto& line = group.line_of_descent;
    if (line.size() > 1) out.emplace_back(key + ".inherits", policy.groups.at(line[line.size() - 2]).name);
    add(key, group.own, out);
    add(key + ".each", group.each, out);
  }
  const std::vector<std::string> names = selectors(policy);
  for (std::size_t i = 0; i < policy.guests.size(); ++i) {
    const std::string key = fmt::format("guests[{}]", names[i]);
    out.emplace_back(key, "defined");
    if (policy.guests[i].group)
      out.emplace_back(key + ".group", policy.groups.at(*policy.guests[i].group).name);
    add(key, policy.guests[i].layer, out);
  }
  if (policy.shadow_file) out.emplace_back("shadow", policy.shadow_file->path);
  return out;
}

/// The selectors that both have, in the order of `of`.
std::vector<std::string> common(const std::vector<std::string>& of, const std::vector<std::string>& other) {
  std::vector<std::string> out;
  std::ranges::copy_if(of, std::back_inserter(out), [&](const std::string& name) {
    return std::ranges::find(other, name) != other.end();
  });
  return out;
}

void compare(const std::string& key, const std::string& before, const std::string& after,
             std::vector<Difference>& out) {
  if (before != after) out.push_back({.key = key, .before = before, .after = after});
}

}  // namespace

std::vector<Difference> rule_differences(const PolicyFile& before, const PolicyFile& after) {
  const Lines old_lines = lines_of(before);
  const Lines new_lines = lines_of(after);
  std::map<std::string, std::string> old_by_key(old_lines.begin(), old_lines.end());
  const std::map<std::string, std::string> new_by_key(new_lines.begin(), new_lines.end());
  std::vector<Difference> out;
  for (const auto& [key, text] : old_lines) {
    const auto found = new_by_key.find(key);
    compare(key, text, found == new_by_key.end() ? std::string() : found->second, out);
  }
  for (const auto& [key, text] : new_lines) {
    if (!old_by_key.contains(key)) out.push_back({.key = key, .before = {}, .after = text});
  }
  const std::vector<std::string> old_order = selectors(before);
  const std::vector<std::string> new_order = selectors(after);
  compare("guests (order of the rules)", fmt::format("{}", fmt::join(common(old_order, new_order), ", ")),
          fmt::format("{}", fmt::join(common(new_order, old_order), ", ")), out);
  return out;
}

std::vector<GuestDifference> guest_differences(const PolicyFile& before, const PolicyFile& after,
                                               const std::vector<Subject>& guests,
                                               const policy::rules::WallFace& face) {
  std::vector<GuestDifference> out;
  for (const Subject& guest : guests) {
    const policy::rules::Resolution old =
        policy::rules::resolve_terms(before, guest.name, guest.labels, guest.memory, face);
    const policy::rules::Resolution fresh =
        policy::rules::resolve_terms(after, guest.name, guest.labels, guest.memory, face);
    const policy::GuestLimits& was = old.limits;
    const policy::GuestLimits& is = fresh.limits;
    GuestDifference difference{.guest = guest.name, .values = {}};
    compare("group", was.group, is.group, difference.values);
    compare("min", exact_bytes(was.min), exact_bytes(is.min), difference.values);
    compare("max", exact_bytes(was.max), exact_bytes(is.max), difference.values);
    compare("weight", fmt::format("{}", was.weight), fmt::format("{}", is.weight), difference.values);
    compare("margin_factor", fmt::format("{}", was.margin_factor), fmt::format("{}", is.margin_factor),
            difference.values);
    compare("ksm", was.ksm ? "on" : "off", is.ksm ? "on" : "off", difference.values);
    compare("control", old.terms.control.value ? "on" : "off", fresh.terms.control.value ? "on" : "off",
            difference.values);
    if (!difference.values.empty()) out.push_back(std::move(difference));
  }
  return out;
}

}  // namespace balloon::ctl
