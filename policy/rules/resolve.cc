// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/resolve.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>

#include "base/pages.h"

namespace balloon::policy::rules {
namespace {

template <typename T>
void take(const std::optional<T>& said, const Place* place, bool by_class, Term<T>& out) {
  if (said) out = {.value = *said, .place = place, .by_class = by_class};
}

void take(const Values& values, const Place* place, bool by_class, Terms& out) {
  take(values.min, place, by_class, out.min);
  take(values.max, place, by_class, out.max);
  take(values.weight, place, by_class, out.weight);
  take(values.slo_class, place, by_class, out.slo_class);
  take(values.ksm, place, by_class, out.ksm);
  take(values.margin_factor, place, by_class, out.margin_factor);
  take(values.control, place, by_class, out.control);
  take(values.limits, place, by_class, out.limits);
}

/// What the guest's hypervisor says in labels goes before what the policy does, where the policy says so.
void let_hypervisor_speak(const std::map<std::string, std::string>& labels, Terms& terms) {
  if (terms.limits.value != LimitsOf::hypervisor) return;
  const Place* const place = terms.limits.place;
  const auto label = [&](const char* key) -> std::string_view {
    const auto found = labels.find(key);
    return found == labels.end() ? std::string_view() : std::string_view(found->second);
  };
  if (const auto min = parse_bytes(label(kMinLabel)); min && *min > Bytes{0})
    terms.min = {.value = {.bytes = *min}, .place = place};
  const std::string_view text = label(kWeightLabel);
  std::uint32_t weight = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), weight);
  if (error == std::errc{} && end == text.data() + text.size() && weight >= 1 && weight <= kWeightMax)
    terms.weight = {.value = weight, .place = place};
  if (label(kControlLabel) == "off") terms.control = {.value = false, .place = place};
}

std::vector<Voice> voices_of(const std::vector<const Layer*>& layers, const WallFace& face) {
  std::vector<Voice> voices;
  for (const Layer* layer : layers) {
    voices.push_back({.place = &layer->place, .values = &layer->values});
    if (const Schedule* schedule = layer->active(face))
      voices.push_back({.place = &schedule->place, .values = &schedule->values});
  }
  return voices;
}

}  // namespace

Terms settle(const std::vector<Voice>& voices) {
  // Only the innermost class speaks: one further out has been replaced, with all that it stood for.
  const auto last_class = std::ranges::find_if(
      voices.rbegin(), voices.rend(), [](const Voice& voice) { return voice.values->slo_class.has_value(); });
  Terms terms;
  take(built_in_values(), nullptr, false, terms);
  for (auto voice = voices.begin(); voice != voices.end(); ++voice) {
    const bool speaks = last_class != voices.rend() && voice == last_class.base() - 1;
    if (speaks) take(values_of(*voice->values->slo_class), voice->place, true, terms);
    take(*voice->values, voice->place, false, terms);
  }
  return terms;
}

const GuestRule* find_rule(const PolicyFile& policy, const std::string& name,
                           const std::map<std::string, std::string>& labels) {
  const auto fits = [&](const GuestRule& rule) {
    if (fnmatch(rule.name.c_str(), name.c_str(), 0) != 0) return false;
    return std::ranges::all_of(rule.labels, [&](const auto& label) {
      const auto found = labels.find(label.first);
      return found != labels.end() && found->second == label.second;
    });
  };
  const auto rule = std::ranges::find_if(policy.guests, fits);
  return rule == policy.guests.end() ? nullptr : &*rule;
}

std::vector<const Layer*> layers_of(const PolicyFile& policy, const GuestRule* rule) {
  std::vector<const Layer*> layers{&policy.defaults};
  if (rule == nullptr) return layers;
  if (rule->group) {
    for (const std::size_t ancestor : policy.groups.at(*rule->group).line_of_descent)
      layers.push_back(&policy.groups.at(ancestor).each);
  }
  layers.push_back(&rule->layer);
  return layers;
}

std::vector<const Layer*> layers_of(const PolicyFile& policy, const GroupRule& group) {
  std::vector<const Layer*> layers;
  for (const std::size_t ancestor : group.line_of_descent) layers.push_back(&policy.groups.at(ancestor).own);
  return layers;
}

Resolution resolve_terms(const PolicyFile& policy, const std::string& name,
                         const std::map<std::string, std::string>& labels, Bytes memory,
                         const WallFace& face) {
  Resolution out;
  out.rule = find_rule(policy, name, labels);
  if (out.rule != nullptr && out.rule->group) out.group = &policy.groups.at(*out.rule->group);
  out.terms = settle(voices_of(layers_of(policy, out.rule), face));
  let_hypervisor_speak(labels, out.terms);
  const Bytes max = whole_pages(std::min(out.terms.max.value.of(memory), memory));
  out.limits = {.min = whole_pages(std::min(out.terms.min.value.of(memory), max)),
                .max = max,
                .weight = out.terms.weight.value,
                .group = out.group == nullptr ? std::string() : out.group->name,
                .margin_factor = out.terms.margin_factor.value,
                .ksm = out.terms.ksm.value};
  return out;
}

policy::GuestLimits resolve(const PolicyFile& policy, const std::string& name,
                            const std::map<std::string, std::string>& labels, Bytes memory,
                            const WallFace& face) {
  return resolve_terms(policy, name, labels, memory, face).limits;
}

Layer whole_defaults(const PolicyFile& policy) {
  Layer layer = policy.defaults;
  const Terms terms = settle({{.place = &layer.place, .values = &policy.defaults.values}});
  layer.values = {.min = terms.min.value,
                  .max = terms.max.value,
                  .weight = terms.weight.value,
                  .slo_class = terms.slo_class.value,
                  .ksm = terms.ksm.value,
                  .margin_factor = terms.margin_factor.value,
                  .control = terms.control.value,
                  .limits = terms.limits.value};
  return layer;
}

Terms settle_group(const PolicyFile& policy, const GroupRule& group, const WallFace& face) {
  Terms terms = settle(voices_of(layers_of(policy, group), face));
  if (terms.min.place == nullptr) terms.min.value = SizeRule{};  // a group guarantees nothing by itself
  return terms;
}

std::vector<policy::GroupLimits> resolve_groups(const PolicyFile& policy, const WallFace& face) {
  std::vector<policy::GroupLimits> out;
  for (const GroupRule& group : policy.groups) {
    const Terms terms = settle_group(policy, group, face);
    policy::GroupLimits limits{.name = group.name, .weight = terms.weight.value};
    // Without a maximum of its own a group is bounded by the budget alone.
    if (terms.max.place != nullptr) limits.max = whole_pages(terms.max.value.of(policy.host_memory));
    limits.min = whole_pages(std::min(terms.min.value.of(policy.host_memory), limits.max));
    out.push_back(std::move(limits));
  }
  std::ranges::sort(out, {}, &policy::GroupLimits::name);
  return out;
}

}  // namespace balloon::policy::rules
