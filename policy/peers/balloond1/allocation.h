// SPDX-License-Identifier: Apache-2.0
// Who gets how much: weighted water-filling of one budget, in two levels (groups among each other, then each
// group's own guests) and in tiers by how dear memory is to those who would have to give it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/peers/balloond1/tunables.h"
#include "policy/peers/balloond1/water_filling.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

inline constexpr std::uint32_t kNoGroup = ~std::uint32_t{0};

/// One party to the sharing: a guest, or a guest to be. low <= firm <= need <= calm <= keep <= most.
struct Party {
  Bytes low{};    ///< guaranteed
  Bytes firm{};   ///< in use by programs: less means swapping
  Bytes need{};   ///< with margin and cache in use
  Bytes claim{};  ///< when it grows, what it needed at its peaks
  Bytes calm{};   ///< with what it needed a moment ago and may need again
  Bytes keep{};   ///< with all the page cache that it has, and room for a burst as it has shown before
  Bytes most{};   ///< what it may have at all
  std::uint32_t weight = 1;
  std::uint32_t group = kNoGroup;  ///< index of its group
};

class Allocation {
 public:
  /// Fills in shares(), one a party. All needs when the budget covers them, and then, as far as `headroom` of
  /// it stays free, the page cache that guests have, by weight (when surplus goes to guests: all of the
  /// budget); else everybody's firm part and the rest by weight; else by weight below that, down to the
  /// guaranteed lows and no further. O(n log n). Says normal, tight (needs exceed the budget) or infeasible
  /// (the lows do).
  HostState share(std::span<const Party> parties, std::span<const GroupLimits> groups, Bytes budget,
                  Bytes headroom, Surplus surplus);

  std::span<const Bytes> shares() const { return shares_; }
  /// What the party's group has together, or no bound.
  Bytes group_share(const Party& party) const;

 private:
  HostState fill(std::span<const Party> parties, Bytes budget, Bytes headroom, Surplus surplus,
                 std::vector<Bytes>& shares);
  void gather(std::span<const Party> parties, std::span<const GroupLimits> groups);
  void hand_down(std::span<const Party> parties, std::size_t groups, Surplus surplus);

  std::vector<Bytes> shares_;
  std::vector<Party> top_;       ///< groups first, then guests without one
  std::vector<std::size_t> at_;  ///< where in top_ a guest without a group is
  std::vector<Bytes> top_shares_;
  std::vector<std::size_t> order_;   ///< parties by group
  std::vector<std::size_t> starts_;  ///< where in order_ each group starts
  std::vector<Party> members_;
  std::vector<Bytes> member_shares_;
  std::vector<Claim> claims_;
  FillSpace space_;
};

}  // namespace balloon::policy::peers::balloond1
