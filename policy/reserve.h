// SPDX-License-Identifier: Apache-2.0
// What of the host's memory is kept from guests, for bursts of the host's own.
#pragma once

#include <optional>

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

/// What a decision found of its guests, for the next one.
struct GuestsInWant {
  bool any = false;   ///< one of them hurts
  Bytes untouched{};  ///< of those that are not moved: what counts for nothing, and they may yet touch
};

class Reserve {
 public:
  /// What of the host's memory is whose, in bytes.
  struct Use {
    double own = 0;    ///< used beside guests
    double spare = 0;  ///< left once all guests have what they are asked to be; may be negative
  };
  /// The reserve, in bytes. All of it while the host's own use has risen of late; else it is lent to guests
  /// in want, down to reserve_kept_ratio of the host's memory, reserve_kept_min, and what guests that are not
  /// moved may yet touch, and comes back by half in reserve_half_life. What was lent before the first call
  /// stays lent: it takes nothing from anybody. `elapsed`: seconds since the last call.
  double update(const HostSnapshot& host, const Use& use, const GuestsInWant& guests, double elapsed,
                const Tunables& tunables);

 private:
  std::optional<double> usual_;  ///< what the host used of late; bytes
  std::optional<double> rose_;   ///< seconds since that rose
  double lent_ = 0;              ///< of what may be lent, what is; 0 to 1
};

}  // namespace balloon::policy
