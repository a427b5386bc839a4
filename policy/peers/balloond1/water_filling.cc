// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/water_filling.h"

#include <algorithm>

#include "base/pages.h"

namespace balloon::policy::peers::balloond1 {

void water_fill(std::span<const Claim> claims, Bytes budget, std::vector<Bytes>& shares, FillSpace& space) {
  using Bend = FillSpace::Bend;
  shares.assign(claims.size(), Bytes{});
  double filled = 0;
  double wanted = 0;
  std::vector<Bend>& bends = space.bends;
  bends.clear();
  for (const Claim& claim : claims) {
    filled += static_cast<double>(claim.low);
    wanted += static_cast<double>(claim.high);
    const double weight = std::max<std::uint32_t>(claim.weight, 1);
    bends.push_back({static_cast<double>(claim.low) / weight, weight});
    bends.push_back({static_cast<double>(claim.high) / weight, -weight});
  }
  const double total = static_cast<double>(budget);
  if (wanted <= total) {
    for (std::size_t i = 0; i < claims.size(); ++i) shares[i] = claims[i].high;
    return;
  }

  double level = 0;
  if (filled < total) {
    std::ranges::sort(bends, {}, &Bend::level);
    double slope = 0;
    for (const Bend& bend : bends) {
      const double until_here = filled + slope * (bend.level - level);
      if (until_here >= total) break;
      filled = until_here;
      level = bend.level;
      slope += bend.slope;
    }
    if (slope > 0) level += (total - filled) / slope;
  }
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const Claim& claim = claims[i];
    const double share = level * std::max<std::uint32_t>(claim.weight, 1);
    if (share <= static_cast<double>(claim.low)) {
      shares[i] = claim.low;
    } else if (share >= static_cast<double>(claim.high)) {
      shares[i] = claim.high;
    } else {
      shares[i] = std::max(claim.low, whole_pages(static_cast<Bytes>(share)));
    }
  }
}

}  // namespace balloon::policy::peers::balloond1
