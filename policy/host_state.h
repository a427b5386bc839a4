// SPDX-License-Identifier: Apache-2.0
// The state of the host's own memory: normal, tight, critical, emergency. With hysteresis, so that it does
// not flap.
#pragma once

#include <optional>

#include "policy/rate.h"
#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

class HostMonitor {
 public:
  /// The state at `now`: by what is available against the minimum that should be (no more than the `reserve`
  /// that is kept now), and by swap traffic and PSI since the sample before; the worst of them counts. Worse
  /// at once, better only past the next milder threshold.
  HostState update(const HostSnapshot& host, Time now, Bytes reserve, const Tunables& tunables);

  /// Of host swap, both ways, bytes a second.
  double swap_rate() const { return swap_rate_; }

 private:
  HostState level_ = HostState::normal;
  std::optional<Time> at_;
  Counter swap_in_, swap_out_;
  double swap_rate_ = 0;
};

const StateActions& actions_in(HostState level, const HostStateActions& actions);

/// The minimum that should be available on the host: the state thresholds are parts of it. Never above the
/// `reserve`, which is what the engine keeps free, unless policy says what it is.
Bytes minimum_free(const HostSnapshot& host, Bytes reserve, const Tunables& tunables);

}  // namespace balloon::policy
