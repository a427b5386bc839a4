// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/allocation.h"

#include <algorithm>
#include <array>

namespace balloon::policy::peers::balloond1 {
namespace {

double sum(std::span<const Party> parties, Bytes Party::* part) {
  double all = 0;
  for (const Party& party : parties) all += static_cast<double>(party.*part);
  return all;
}

void add(Party& group, const Party& member) {
  group.low += member.low;
  group.firm += member.firm;
  group.need += member.need;
  group.claim += member.claim;
  group.calm += member.calm;
  group.keep += member.keep;
  group.most += member.most;
}

/// What its members add up to, within the group's own limits. Its members' guarantees come first; its own
/// minimum is theirs only as far as they need it.
void limit(Party& group, const GroupLimits& limits) {
  const Bytes most = std::max(limits.max, group.low);
  group.most = std::min(group.most, most);
  group.keep = std::min(group.keep, group.most);
  group.calm = std::min(group.calm, group.keep);
  group.claim = std::min(group.claim, group.calm);
  group.need = std::min(group.need, group.claim);
  group.firm = std::min(group.firm, group.need);
  group.low = std::max(group.low, std::min(limits.min, group.need));
  group.firm = std::max(group.firm, group.low);
  group.weight = limits.weight;
}

}  // namespace

HostState Allocation::fill(std::span<const Party> parties, Bytes budget, Bytes headroom, Surplus surplus,
                           std::vector<Bytes>& shares) {
  // Dearest first. The first tier that does not fit is filled by weight, on top of the one before it.
  const auto last = surplus == Surplus::guests ? &Party::most : &Party::keep;
  constexpr std::size_t kNeeds = 3;  // tiers from here on are wishes, which leave the headroom free
  const std::array<Bytes Party::*, 6> tiers = {&Party::low,   &Party::firm, &Party::need,
                                               &Party::claim, &Party::calm, last};
  const auto whole = static_cast<double>(budget);
  std::size_t tier = 0;
  double below = 0;
  for (; tier < tiers.size(); ++tier) {
    const double tier_sum = sum(parties, tiers[tier]);
    const double free = std::min(static_cast<double>(headroom), whole - below);
    if (tier > kNeeds) budget = static_cast<Bytes>(whole - free);
    if (tier_sum > static_cast<double>(budget)) break;
    below = tier_sum;
  }
  const HostState state = tier == 0       ? HostState::infeasible
                          : tier < kNeeds ? HostState::tight
                                          : HostState::normal;
  Bytes Party::* const low = tiers[tier == 0 ? 0 : tier - 1];
  Bytes Party::* const high = tiers[std::min(tier, tiers.size() - 1)];
  claims_.clear();
  for (const Party& party : parties) claims_.push_back({party.*low, party.*high, party.weight});
  water_fill(claims_, budget, shares, space_);
  return state;
}

/// One party for each group, then the guests that have none; and the guests sorted by group.
void Allocation::gather(std::span<const Party> parties, std::span<const GroupLimits> groups) {
  top_.assign(groups.size(), {});
  at_.assign(parties.size(), 0);
  starts_.assign(groups.size() + 1, 0);
  for (const Party& party : parties) {
    if (party.group != kNoGroup) ++starts_[party.group + 1];
  }
  for (std::size_t g = 0; g < groups.size(); ++g) starts_[g + 1] += starts_[g];
  order_.assign(starts_.back(), 0);
  for (std::size_t i = 0; i < parties.size(); ++i) {
    const Party& party = parties[i];
    if (party.group == kNoGroup) {
      at_[i] = top_.size();
      top_.push_back(party);
    } else {
      order_[starts_[party.group]++] = i;
      add(top_[party.group], party);
    }
  }
  std::rotate(starts_.begin(), starts_.end() - 1, starts_.end());  // each start has moved on to the next one
  starts_.front() = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) limit(top_[g], groups[g]);
}

void Allocation::hand_down(std::span<const Party> parties, std::size_t groups, Surplus surplus) {
  shares_.assign(parties.size(), Bytes{});
  for (std::size_t i = 0; i < parties.size(); ++i) {
    if (parties[i].group == kNoGroup) shares_[i] = top_shares_[at_[i]];
  }
  for (std::size_t g = 0; g < groups; ++g) {
    const std::span<const std::size_t> mine(order_.data() + starts_[g], starts_[g + 1] - starts_[g]);
    members_.clear();
    for (const std::size_t i : mine) members_.push_back(parties[i]);
    fill(members_, top_shares_[g], Bytes{0}, surplus, member_shares_);
    for (std::size_t m = 0; m < mine.size(); ++m) shares_[mine[m]] = member_shares_[m];
  }
}

HostState Allocation::share(std::span<const Party> parties, std::span<const GroupLimits> groups, Bytes budget,
                            Bytes headroom, Surplus surplus) {
  top_shares_.clear();
  if (std::ranges::none_of(parties, [](const Party& party) { return party.group != kNoGroup; }))
    return fill(parties, budget, headroom, surplus, shares_);
  gather(parties, groups);
  const HostState state = fill(top_, budget, headroom, surplus, top_shares_);
  hand_down(parties, groups.size(), surplus);
  return state;
}

Bytes Allocation::group_share(const Party& party) const {
  return party.group == kNoGroup || top_shares_.empty() ? Bytes::max() : top_shares_[party.group];
}

}  // namespace balloon::policy::peers::balloond1
