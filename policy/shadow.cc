// SPDX-License-Identifier: Apache-2.0
#include "policy/shadow.h"

#include <algorithm>
#include <utility>

namespace balloon::policy {

Shadow::Shadow(std::unique_ptr<Controller> controller, Bytes tolerance)
    : controller_(std::move(controller)), tolerance_(tolerance) {}

const ShadowReport& Shadow::observe(const Snapshot& snapshot, const Plan& live) {
  const Plan plan = controller_->decide(snapshot);
  report_.guests.clear();
  report_.more = report_.less = Bytes{0};
  report_.live_state = live.state;
  report_.shadow_state = plan.state;
  const std::size_t guests = std::min(live.guests.size(), plan.guests.size());
  for (std::size_t i = 0; i < guests; ++i) {
    const GuestPlan& ours = live.guests[i];
    const GuestPlan& other = plan.guests[i];
    const bool above = other.target > ours.target;
    const Bytes apart = above ? other.target - ours.target : ours.target - other.target;
    if (apart <= tolerance_) continue;
    (above ? report_.more : report_.less) += apart;
    report_.guests.push_back({ours.name, ours.target, other.target, ours.reason, other.reason});
  }
  ++totals_.decisions;
  totals_.different += report_.guests.empty() ? 0 : 1;
  totals_.differences += report_.guests.size();
  totals_.more += static_cast<double>(report_.more);
  totals_.less += static_cast<double>(report_.less);
  return report_;
}

}  // namespace balloon::policy
