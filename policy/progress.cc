#include "policy/progress.h"

namespace balloon::policy {
namespace {

/// One batch of the driver (256 pages, drivers/virtio/virtio_balloon.c): less is no progress, and as much off
/// target is as good as there.
constexpr Bytes kStep = 1ULL << 20;

}  // namespace

bool Progress::stuck(const GuestSnapshot& guest, Time now, const Tunables& tunables) {
  if (stuck_since_) {
    if (now >= *stuck_since_ && now - *stuck_since_ < tunables.retry_after) return true;
    stuck_since_.reset();
    best_ = 0;
  }
  const bool shrinking = guest.actual > guest.target + kStep;
  if (!shrinking || best_ == 0 || guest.actual + kStep <= best_ || now < best_at_) {
    best_ = guest.actual;
    best_at_ = now;
    return false;
  }
  if (now - best_at_ < tunables.stuck_after) return false;
  stuck_since_ = now;
  return true;
}

}  // namespace balloon::policy
