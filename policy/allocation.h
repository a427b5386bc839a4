// SPDX-License-Identifier: Apache-2.0
// Who gets how much: weighted water-filling of one budget, in two levels (groups among each other, then each
// group's own guests) and in tiers by how dear memory is to those who would have to give it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/levels.h"
#include "policy/tunables.h"
#include "policy/types.h"
#include "policy/water_filling.h"

namespace balloon::policy {

inline constexpr std::uint32_t kNoGroup = ~std::uint32_t{0};

/// One that memory is shared out to: a guest, or a guest to be.
struct Consumer {
  Levels levels;
  std::uint32_t weight = 1;
  std::uint32_t group = kNoGroup;  ///< index of its group
};

class Allocation {
 public:
  /// Fills in shares(), one a consumer: everybody has the highest level that the budget covers for all, and
  /// what is left by weight on the way to the next one; nobody less than the minimum. Levels above claim
  /// leave `headroom` free. The last one is cache, wanted or maximum, by where surplus goes. O(n log n).
  /// Says normal, tight (needs exceed the budget) or infeasible (minimums do).
  HostState share(std::span<const Consumer> consumers, std::span<const GroupLimits> groups, Bytes budget,
                  Bytes headroom, Surplus surplus);

  std::span<const Bytes> shares() const { return shares_; }
  /// What the consumer's group has together, or no bound.
  Bytes group_share(const Consumer& consumer) const;

 private:
  HostState fill(std::span<const Consumer> consumers, Bytes budget, Bytes headroom, Surplus surplus,
                 std::vector<Bytes>& shares);
  void gather(std::span<const Consumer> consumers, std::span<const GroupLimits> groups);
  void hand_down(std::span<const Consumer> consumers, std::size_t groups, Surplus surplus);

  std::vector<Bytes> shares_;
  std::vector<Consumer> top_;    ///< groups first, then guests without one
  std::vector<std::size_t> at_;  ///< where in top_ a guest without a group is
  std::vector<Bytes> top_shares_;
  std::vector<std::size_t> order_;   ///< consumers by group
  std::vector<std::size_t> starts_;  ///< where in order_ each group starts
  std::vector<Consumer> members_;
  std::vector<Bytes> member_shares_;
  std::vector<Claim> claims_;
  FillSpace space_;
};

}  // namespace balloon::policy
