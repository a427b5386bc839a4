// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/probing.h"

#include <algorithm>

#include "policy/peers/balloond1/rate.h"

namespace balloon::policy::peers::balloond1 {

void Probing::adopt(Time now, const Tunables& tunables) {
  grown_at_ = now;
  hold_ = tunables.hold;
}

void Probing::grown(Time now, const Tunables& tunables) {
  if (taken_ && grown_at_ && within(*grown_at_, now, tunables.hold_max)) {
    // What was taken since the last growth was not idle after all. Wait until after it would come back again.
    const auto next = std::chrono::nanoseconds(
        static_cast<std::int64_t>(tunables.hold_growth * static_cast<double>((now - *grown_at_).count())));
    hold_ = std::min(tunables.hold_max, std::max(hold_, next));
  } else if (taken_ || !grown_at_) {
    hold_ = tunables.hold;
  }
  grown_at_ = now;
  taken_ = false;
}

std::chrono::nanoseconds Probing::held_for(Time now) const {
  if (!grown_at_ || !within(*grown_at_, now, hold_)) return {};
  return hold_ - (now - *grown_at_);
}

}  // namespace balloon::policy::peers::balloond1
