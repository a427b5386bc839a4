// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/layers_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "policy/rules/resolve.h"

namespace balloon::policy::rules {
namespace {

std::vector<Voice> voices_with(const std::vector<const Layer*>& layers, const Schedule* active) {
  std::vector<Voice> voices;
  for (const Layer* layer : layers) {
    voices.push_back({.place = &layer->place, .values = &layer->values});
    for (const Schedule& schedule : layer->schedules) {
      if (&schedule == active) voices.push_back({.place = &schedule.place, .values = &schedule.values});
    }
  }
  return voices;
}

std::optional<std::string> judge(const Terms& terms, std::optional<Bytes> whole) {
  // What a class stands for gives way to what is said, and what is built in to both.
  if (terms.min.by_class || terms.max.by_class || terms.min.place == nullptr || terms.max.place == nullptr)
    return std::nullopt;
  const SizeRule& min = terms.min.value;
  const SizeRule& max = terms.max.value;
  const bool alike = (min.bytes != Bytes{0}) == (max.bytes != Bytes{0});
  if (terms.min.place == terms.max.place && alike) return std::nullopt;  // complained about where it was read
  if (const auto complaint = contradiction(min, max)) return complaint;
  if (!whole || alike || min.of(*whole) <= max.of(*whole)) return std::nullopt;
  return fmt::format("min {} is above max {} of {}", describe(min), describe(max), format_bytes(*whole));
}

}  // namespace

void check_layers(const std::vector<const Layer*>& layers, const LayerSpots& spots,
                  std::optional<Bytes> whole) {
  const Layer& last = *layers.back();
  const auto complaint_with = [&](const Schedule* active) {
    return judge(settle(voices_with(layers, active)), whole);
  };
  if (spots.limit) {
    if (const auto complaint = complaint_with(nullptr)) return spots.limit->complain(*complaint);
  }
  for (std::size_t i = 0; i < spots.schedules.size(); ++i) {
    const Schedule& schedule = last.schedules.at(i);
    if (!schedule.values.min && !schedule.values.max) continue;
    if (const auto complaint = complaint_with(&schedule)) spots.schedules[i].complain(*complaint);
  }
  if (!spots.limit) return;
  for (const Layer* layer : layers) {
    for (const Schedule& schedule : layer->schedules) {
      if (layer == &last) continue;
      const auto complaint = complaint_with(&schedule);
      if (complaint)
        return spots.limit->complain(fmt::format("{} while {} is active", *complaint, schedule.place.path));
    }
  }
}

}  // namespace balloon::policy::rules
