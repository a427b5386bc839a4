// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/progress.h"

#include <algorithm>

#include "policy/peers/balloond1/rate.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// One batch of the driver (256 pages, drivers/virtio/virtio_balloon.c).
constexpr Bytes kStep = kMiB;
/// What counts as clearly more to give: twice as much, and this.
constexpr Bytes kMoreToGive = 32 * kMiB;
/// Of a newly measured speed this part is believed.
constexpr double kSpeedGain = 0.3;
/// After this many failures in a row waiting longer changes nothing (and the shift stays small).
constexpr int kFailuresMax = 16;

/// As much off target as no target would be changed for is as good as there: a driver that deflates on OOM
/// stays a little above.
bool shrinking(const GuestSnapshot& guest, const Tunables& tunables) {
  return guest.actual > guest.target && guest.actual - guest.target > std::max(kStep, tunables.deadband_min);
}

}  // namespace

/// A balloon that came to its target within a tick may be faster than it looks: then only more counts.
void Progress::measure(const GuestSnapshot& guest, Time now, const Tunables& tunables) {
  const bool shrinks = shrinking(guest, tunables);
  if (asked_ && now > seen_at_ && seen_ > guest.actual) {
    const double speed = static_cast<double>(seen_ - guest.actual) / seconds(since(seen_at_, now));
    if (!speed_) {
      if (shrinks) speed_ = speed;
    } else if (shrinks || speed > *speed_) {
      *speed_ += kSpeedGain * (speed - *speed_);
    }
  }
  seen_ = guest.actual;
  seen_at_ = now;
  asked_ = shrinks;
}

double Progress::speed(const Tunables& tunables) const {
  return stuck_since_ ? 0 : speed_.value_or(tunables.balloon_speed);
}

bool Progress::stuck(const GuestSnapshot& guest, Bytes available, Time now, const Tunables& tunables) {
  measure(guest, now, tunables);
  if (stuck_since_) {
    from_ = std::max(from_, std::min(guest.actual, guest.target));  // it can still be grown
    const std::chrono::nanoseconds doubled = tunables.retry_after * (1LL << (failures_ - 1));
    const auto wait =
        std::clamp(doubled, tunables.retry_after, std::max(tunables.retry_after, tunables.retry_max));
    const bool more_to_give = available / 2 > available_ && available - available_ > kMoreToGive;
    if (within(*stuck_since_, now, more_to_give ? tunables.stuck_after : wait)) return true;
    stuck_since_.reset();
    from_ = Bytes{0};
  }
  const double expected = static_cast<double>(tunables.progress_per_second) * seconds(tunables.stuck_after);
  const bool moved = from_ > guest.actual && static_cast<double>(from_ - guest.actual) >=
                                                 std::max(expected, static_cast<double>(kStep));
  const bool shrinks = shrinking(guest, tunables);
  if (!shrinks || from_ == Bytes{0} || moved || now < from_at_) {
    // It comes to rest where it was asked to be, or is well on its way: earlier failures are forgotten.
    if (moved || (!shrinks && from_ > guest.actual + kStep)) failures_ = 0;
    from_ = guest.actual;
    from_at_ = now;
    return false;
  }
  if (within(from_at_, now, tunables.stuck_after)) return false;
  stuck_since_ = now;
  from_ = guest.actual;
  available_ = available;
  failures_ = std::min(failures_ + 1, kFailuresMax);
  return true;
}

}  // namespace balloon::policy::peers::balloond1
