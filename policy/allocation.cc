// SPDX-License-Identifier: Apache-2.0
#include "policy/allocation.h"

#include <algorithm>
#include <array>

namespace balloon::policy {
namespace {

double sum(std::span<const Consumer> consumers, Level level) {
  double all = 0;
  for (const Consumer& consumer : consumers) all += static_cast<double>(consumer.levels[level]);
  return all;
}

/// What its members add up to, within the group's own limits. Its members' guarantees come first; its own
/// minimum is theirs only as far as they need it.
void limit(Consumer& group, const GroupLimits& limits) {
  const Bytes most = std::max(limits.max, group.levels[Level::minimum]);
  const Levels capped = group.levels.at_most(most);
  group.levels = capped.at_least(std::min(limits.min, capped[Level::need]));
  group.weight = limits.weight;
}

}  // namespace

HostState Allocation::fill(std::span<const Consumer> consumers, Bytes budget, Bytes headroom, Surplus surplus,
                           std::vector<Bytes>& shares) {
  // The first level that does not fit is filled by weight, on top of the one before it.
  const Level above_peak = surplus == Surplus::guests ? Level::maximum : Level::cache;
  const std::array filled = {Level::minimum,
                             Level::working_set,
                             Level::need,
                             Level::claim,
                             Level::peak,
                             above_peak,
                             surplus == Surplus::wanted ? Level::wanted : above_peak};
  const auto whole = static_cast<double>(budget);
  std::size_t next = 0;
  double below = 0;
  for (; next < filled.size(); ++next) {
    const double level_sum = sum(consumers, filled[next]);
    const double free = std::min(static_cast<double>(headroom), whole - below);
    // What is above claims is wished for, and leaves the headroom free.
    if (filled[next] > Level::claim) budget = static_cast<Bytes>(whole - free);
    if (level_sum > static_cast<double>(budget)) break;
    below = level_sum;
  }
  const Level high = filled[std::min(next, filled.size() - 1)];
  const Level low = filled[next == 0 ? 0 : next - 1];
  const HostState state = next == 0             ? HostState::infeasible
                          : high <= Level::need ? HostState::tight
                                                : HostState::normal;
  claims_.clear();
  for (const Consumer& consumer : consumers)
    claims_.push_back({consumer.levels[low], consumer.levels[high], consumer.weight});
  water_fill(claims_, budget, shares, space_);
  return state;
}

/// One consumer for each group, then the guests that have none; and the guests sorted by group.
void Allocation::gather(std::span<const Consumer> consumers, std::span<const GroupLimits> groups) {
  top_.assign(groups.size(), {});
  at_.assign(consumers.size(), 0);
  starts_.assign(groups.size() + 1, 0);
  for (const Consumer& consumer : consumers) {
    if (consumer.group != kNoGroup) ++starts_[consumer.group + 1];
  }
  for (std::size_t g = 0; g < groups.size(); ++g) starts_[g + 1] += starts_[g];
  order_.assign(starts_.back(), 0);
  for (std::size_t i = 0; i < consumers.size(); ++i) {
    const Consumer& consumer = consumers[i];
    if (consumer.group == kNoGroup) {
      at_[i] = top_.size();
      top_.push_back(consumer);
    } else {
      order_[starts_[consumer.group]++] = i;
      top_[consumer.group].levels += consumer.levels;
    }
  }
  std::rotate(starts_.begin(), starts_.end() - 1, starts_.end());  // each start has moved on to the next one
  starts_.front() = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) limit(top_[g], groups[g]);
}

void Allocation::hand_down(std::span<const Consumer> consumers, std::size_t groups, Surplus surplus) {
  shares_.assign(consumers.size(), Bytes{});
  for (std::size_t i = 0; i < consumers.size(); ++i) {
    if (consumers[i].group == kNoGroup) shares_[i] = top_shares_[at_[i]];
  }
  for (std::size_t g = 0; g < groups; ++g) {
    const std::span<const std::size_t> mine(order_.data() + starts_[g], starts_[g + 1] - starts_[g]);
    members_.clear();
    for (const std::size_t i : mine) members_.push_back(consumers[i]);
    fill(members_, top_shares_[g], Bytes{0}, surplus, member_shares_);
    for (std::size_t m = 0; m < mine.size(); ++m) shares_[mine[m]] = member_shares_[m];
  }
}

HostState Allocation::share(std::span<const Consumer> consumers, std::span<const GroupLimits> groups,
                            Bytes budget, Bytes headroom, Surplus surplus) {
  top_shares_.clear();
  if (std::ranges::none_of(consumers, [](const Consumer& consumer) { return consumer.group != kNoGroup; }))
    return fill(consumers, budget, headroom, surplus, shares_);
  gather(consumers, groups);
  const HostState state = fill(top_, budget, headroom, surplus, top_shares_);
  hand_down(consumers, groups.size(), surplus);
  return state;
}

Bytes Allocation::group_share(const Consumer& consumer) const {
  return consumer.group == kNoGroup || top_shares_.empty() ? Bytes::max() : top_shares_[consumer.group];
}

}  // namespace balloon::policy
