// Whether a balloon that was asked to shrink its guest does so.
#pragma once

#include <optional>

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

class Progress {
 public:
  /// Looks at where the balloon is at `now`; true while the guest counts as stuck.
  bool stuck(const GuestSnapshot& guest, Time now, const Tunables& tunables);

 private:
  Bytes best_ = 0;  ///< size at the last progress
  Time best_at_{};
  std::optional<Time> stuck_since_;
};

}  // namespace balloon::policy
