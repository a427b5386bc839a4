// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/ksm.h"

#include <algorithm>
#include <cmath>

#include "base/pages.h"
#include "policy/peers/balloond1/host_state.h"
#include "policy/peers/balloond1/rate.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// The kernel's own default (mm/ksm.c, ksm_thread_sleep_millisecs), and MOM's for hosts of 8 GiB.
constexpr std::chrono::nanoseconds kSleep = std::chrono::milliseconds(20);
/// MOM's and ksmtuned's least; more than a busy core's worth is never asked for (the kernel's advisor stops
/// at 30000 pages, for hosts of terabytes).
constexpr double kPagesMin = 64;
constexpr double kPagesMax = 30000;
/// In steps of this, so that it does not change with every page.
constexpr double kPagesStep = 64;
/// Merging that saves less than this part of what it looks at runs four times slower.
constexpr double kVain = 0.01;
constexpr double kVainSlower = 4;
/// Stops when this much more is left than it starts at.
constexpr double kStop = 1.5;

}  // namespace

std::optional<KsmPlan> KsmGovernor::update(const Snapshot& snapshot, const Plan& plan, double needed,
                                           const Tunables& tunables) {
  if (!snapshot.host.ksm || !snapshot.host.ksm->controllable) {
    run_.reset();
    return std::nullopt;
  }
  const KsmSnapshot& ksm = *snapshot.host.ksm;
  double mergeable = 0;  // of guests that take part
  for (const GuestSnapshot& guest : snapshot.guests) {
    if (guest.limits.ksm && guest.on_host.merging)
      mergeable += static_cast<double>(std::min(guest.on_host.resident, guest.memory));
  }
  const double left = static_cast<double>(plan.budget) - needed;
  const double start = tunables.ksm_ratio * static_cast<double>(snapshot.host.total);
  const bool was = run_.value_or(ksm.running);
  const bool wanted = actions_in(plan.level, tunables.actions).ksm || left < (was ? kStop * start : start);
  run_ = wanted && mergeable > 0;

  const bool short_of_memory = plan.level == HostState::critical || plan.level == HostState::emergency;
  double scan = seconds(short_of_memory ? tunables.ksm_scan_critical : tunables.ksm_scan);
  const auto looked_at = static_cast<double>(ksm.unshared) + static_cast<double>(ksm.sharing);
  if (looked_at > mergeable / 2 && static_cast<double>(ksm.sharing) < kVain * looked_at) scan *= kVainSlower;
  const double pages = mergeable / static_cast<double>(kPageSize) * seconds(kSleep) / std::max(scan, 1.0);
  KsmPlan out;
  out.run = *run_;
  out.sleep = kSleep;
  out.pages_to_scan = static_cast<std::uint64_t>(
      std::clamp(std::ceil(pages / kPagesStep) * kPagesStep, kPagesMin, kPagesMax));
  return out;
}

}  // namespace balloon::policy::peers::balloond1
