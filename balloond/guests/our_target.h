// What the daemon last asked of one guest's balloon, and whether somebody else has moved it since. For
// hypervisors that tell a balloon's size and not who asked for it. Pure.
#pragma once

#include <algorithm>
#include <optional>

#include "policy/types.h"

namespace balloon::daemon {

class OurTarget {
 public:
  using Bytes = policy::Bytes;
  /// A balloon on its way goes astray by less: guests give pages in batches, some of which come back.
  static constexpr Bytes kAstray = 16 * kMiB;

  /// The hypervisor took it.
  void asked(Bytes target) {
    target_ = target;
    reached_ = false;
    nearest_.reset();
  }
  void forget() { target_.reset(); }
  /// Takes the balloon's newest size. Returns true once when it left our target, or turned away from it on
  /// its way there: what it has is what counts from then on. `driver_ready`: the guest's driver holds it; the
  /// next one goes to the target by itself.
  bool moved_by_another(Bytes actual, bool driver_ready) {
    if (!target_) return false;
    if (!driver_ready) {
      reached_ = false;
      nearest_.reset();
      return false;
    }
    const Bytes away = std::max(actual, *target_) - std::min(actual, *target_);
    reached_ |= away == 0;
    nearest_ = std::min(away, nearest_.value_or(away));
    if (reached_ ? away == 0 : away <= *nearest_ + kAstray) return false;
    forget();
    return true;
  }

  const std::optional<Bytes>& target() const { return target_; }
  bool on_its_way() const { return target_ && !reached_; }

 private:
  std::optional<Bytes> target_;  ///< unset: none, or others have moved the balloon since
  bool reached_ = false;         ///< the balloon has been there
  std::optional<Bytes> nearest_;
};

}  // namespace balloon::daemon
