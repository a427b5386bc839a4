// SPDX-License-Identifier: Apache-2.0
// Whether a balloon that was asked to shrink its guest does so, and how fast.
#pragma once

#include <optional>

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

class Progress {
 public:
  /// Looks at where the balloon is at `now`; true while the guest counts as stuck. It is tried again after
  /// retry_after, and after twice as long each time that fails; or sooner, when the guest has clearly more
  /// `available` to give than when it failed.
  bool stuck(const GuestSnapshot& guest, Bytes available, Time now, const Tunables& tunables);

  /// Whether it failed when it was last asked to shrink its guest: also while it is tried again.
  bool failed() const { return failures_ > 0; }

  /// Where a stuck guest is to rest: where it got stuck or was grown to, though its driver may deflate on
  /// OOM. A target that followed it up would make the driver inflate again each time, and so bring on the
  /// next OOM.
  Bytes resting_at() const { return from_; }

  /// How fast it frees memory, bytes a second, as far as it has shown.
  double speed(const Tunables& tunables) const;

 private:
  void measure(const GuestSnapshot& guest, Time now, const Tunables& tunables);

  Bytes from_{};  ///< size when the present attempt, or its last stretch of good progress, began
  Time from_at_{};
  std::optional<Time> stuck_since_;
  Bytes available_{};           ///< when it got stuck
  std::uint32_t failures_ = 0;  ///< in a row

  std::optional<double> speed_;
  Bytes seen_{};  ///< size at the last look
  Time seen_at_{};
  bool asked_ = false;  ///< whether it was on its way then
};

}  // namespace balloon::policy
