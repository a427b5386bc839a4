#include "policy/progress.h"

#include <algorithm>

#include "policy/rate.h"

namespace balloon::policy {
namespace {

/// One batch of the driver (256 pages, drivers/virtio/virtio_balloon.c): as much off target is as good as
/// there.
constexpr Bytes kStep = 1ULL << 20;
/// Of a newly measured speed this part is believed.
constexpr double kSpeedGain = 0.3;
/// After this many failures in a row waiting longer changes nothing (and the shift stays small).
constexpr int kFailuresMax = 16;

bool shrinking(const GuestSnapshot& guest) { return guest.actual > guest.target + kStep; }

}  // namespace

/// A balloon that came to its target within a tick may be faster than it looks: then only more counts.
void Progress::measure(const GuestSnapshot& guest, Time now) {
  if (asked_ && now > seen_at_ && seen_ > guest.actual) {
    const double speed = static_cast<double>(seen_ - guest.actual) / seconds(since(seen_at_, now));
    if (!speed_) {
      if (shrinking(guest)) speed_ = speed;
    } else if (shrinking(guest) || speed > *speed_) {
      *speed_ += kSpeedGain * (speed - *speed_);
    }
  }
  seen_ = guest.actual;
  seen_at_ = now;
  asked_ = shrinking(guest);
}

double Progress::speed(const Tunables& tunables) const {
  return stuck_since_ ? 0 : speed_.value_or(tunables.balloon_speed);
}

bool Progress::stuck(const GuestSnapshot& guest, Time now, const Tunables& tunables) {
  measure(guest, now);
  if (stuck_since_) {
    const std::chrono::nanoseconds doubled = tunables.retry_after * (1LL << (failures_ - 1));
    const auto wait =
        std::clamp(doubled, tunables.retry_after, std::max(tunables.retry_after, tunables.retry_max));
    if (within(*stuck_since_, now, wait)) return true;
    stuck_since_.reset();
    from_ = 0;
  }
  const double expected = static_cast<double>(tunables.progress_per_second) * seconds(tunables.stuck_after);
  const bool moved = from_ > guest.actual && static_cast<double>(from_ - guest.actual) >=
                                                 std::max(expected, static_cast<double>(kStep));
  if (!shrinking(guest) || from_ == 0 || moved || now < from_at_) {
    // It comes to rest where it was asked to be, or is well on its way: earlier failures are forgotten.
    if (moved || (!shrinking(guest) && from_ > guest.actual + kStep)) failures_ = 0;
    from_ = guest.actual;
    from_at_ = now;
    return false;
  }
  if (within(from_at_, now, tunables.stuck_after)) return false;
  stuck_since_ = now;
  failures_ = std::min(failures_ + 1, kFailuresMax);
  return true;
}

}  // namespace balloon::policy
