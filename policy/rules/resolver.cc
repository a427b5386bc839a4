// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/resolver.h"

#include <utility>

namespace balloon::policy::rules {
namespace {

std::int64_t minute_of(std::chrono::system_clock::time_point at) {
  return std::chrono::floor<std::chrono::minutes>(at.time_since_epoch()).count();
}

std::vector<bool> active_schedules(const PolicyFile& policy, const WallFace& face) {
  std::vector<bool> active;
  const auto add = [&](const Layer& layer) {
    for (const Schedule& schedule : layer.schedules) active.push_back(face.in(schedule.when));
  };
  add(policy.defaults);
  for (const GroupRule& group : policy.groups) {
    add(group.own);
    add(group.each);
  }
  for (const GuestRule& rule : policy.guests) add(rule.layer);
  return active;
}

}  // namespace

Resolver::Resolver(PolicyFile policy)
    : policy_(std::move(policy)),
      face_({}),
      minute_(minute_of({})),
      active_(active_schedules(policy_, face_)),
      groups_(resolve_groups(policy_, face_)) {}

void Resolver::at(std::chrono::system_clock::time_point now) {
  // Guests that are gone are forgotten: whoever was not asked for in the last round.
  if (asked_this_round_ != known_.size())
    std::erase_if(known_, [this](const auto& known) { return known.second.asked != round_; });
  ++round_;
  asked_this_round_ = 0;
  if (std::exchange(minute_, minute_of(now)) == minute_of(now)) return;
  face_ = WallFace(now);
  std::vector<bool> active = active_schedules(policy_, face_);
  if (active == active_) return;
  active_ = std::move(active);
  ++generation_;
  groups_ = resolve_groups(policy_, face_);
}

const policy::GuestLimits& Resolver::limits(const std::string& name,
                                            const std::map<std::string, std::string>& labels, Bytes memory) {
  Known& known = known_[name];
  if (std::exchange(known.asked, round_) != round_) ++asked_this_round_;
  if (known.generation == generation_ && known.memory == memory && known.labels == labels)
    return known.limits;
  ++resolutions_;
  const Resolution resolution = resolve_terms(policy_, name, labels, memory, face_);
  known = {.labels = labels,
           .memory = memory,
           .limits = resolution.limits,
           .control = resolution.terms.control.value,
           .generation = generation_,
           .asked = round_};
  return known.limits;
}

}  // namespace balloon::policy::rules
