// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/pace.h"

namespace balloon::vmm {

void BalloonPace::at(Time now, Bytes actual, Bytes target) {
  if (target != target_) {
    target_ = target;
    if (!moving_) actual_ = actual;
    if (!moving_ && actual != target) {
      moving_ = true;
      moved_ = Bytes{0};
      started_ = last_step_ = now;
    }
    stalled_ = false;
    if (moving_ && actual == actual_) last_step_ = now;  // what stood still for an old target has a new one
  }
  if (!moving_) {
    actual_ = actual;
    return;
  }
  const bool late = now - last_step_ >= kStall;
  if (late && !stalled_) {
    stalled_ = true;
    ++stalls_;
  }
  if (actual != actual_) {
    moved_ += actual > actual_ ? actual - actual_ : actual_ - actual;
    actual_ = actual;
    last_step_ = now;
    stalled_ = false;
  }
  if (actual == target) moving_ = false;
}

std::uint64_t BalloonPace::rate() const {
  const std::chrono::duration<double> took = last_step_ - started_;
  return took.count() > 0 ? static_cast<std::uint64_t>(static_cast<double>(moved_) / took.count()) : 0;
}

}  // namespace balloon::vmm
