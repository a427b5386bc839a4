// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/otherwise.h"

#include <algorithm>

namespace balloon::policy::peers::balloond1 {
Alternative what_else(const GuestPlan& mine, const GuestSnapshot& seen, const Outlook& outlook) {
  switch (mine.reason) {
    case Reason::share: {
      const Bytes lacking = above(mine.need, mine.share);
      return {outlook.group_full ? Condition::group : Condition::budget, mine.need, lacking, {}};
    }
    case Reason::maximum:
      return mine.need >= seen.limits.max && seen.limits.max < seen.memory
                 ? Alternative{Condition::maximum, seen.memory, seen.memory - seen.limits.max, {}}
                 : Alternative{};
    case Reason::minimum:
      // Its need is clamped to the minimum: what it would be without is in the terms.
      return {Condition::minimum,
              std::min(mine.need, mine.why.need.used + mine.why.need.margin + mine.why.need.growth),
              Bytes{0},
              {}};
    case Reason::deadband:
      return {Condition::larger_change, mine.share, outlook.deadband, {}};
    case Reason::rate_limit: {
      const auto left = static_cast<double>(above(mine.target, mine.share));
      const double wait =
          outlook.shrink_per_second > 0 ? std::min(left / outlook.shrink_per_second, 3600.0) : 0;
      return {Condition::time, mine.share, static_cast<Bytes>(left),
              std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(wait))};
    }
    case Reason::hold:
      if (mine.why.pressure != Pressure::none) return {Condition::pressure, mine.share, Bytes{0}, {}};
      if (outlook.outgrows) return {Condition::growth, mine.share, Bytes{0}, {}};
      return {Condition::time, mine.share, Bytes{0}, outlook.held_for};
    case Reason::pin:
      return {Condition::pin, mine.need, Bytes{0}, {}};
    case Reason::stale:
      return {mine.state == GuestState::stuck ? Condition::balloon : Condition::statistics,
              mine.need,
              Bytes{0},
              {}};
    default:
      return {};
  }
}

}  // namespace balloon::policy::peers::balloond1
