// SPDX-License-Identifier: Apache-2.0
// A second control law evaluated beside the live one, on the same snapshots. It moves nothing; the
// differences are what one wants to know before it is let loose.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "policy/controller.h"
#include "policy/types.h"

namespace balloon::policy {

/// One guest that the shadow would have treated otherwise.
struct ShadowDifference {
  std::string guest;
  Bytes live{};    ///< target
  Bytes shadow{};  ///< target
  Reason live_reason = Reason::unspecified;
  Reason shadow_reason = Reason::unspecified;
};

/// Of one decision.
struct ShadowReport {
  std::vector<ShadowDifference> guests;  ///< in the snapshot's order
  Bytes more{};                          ///< what the shadow would have given above the live targets
  Bytes less{};                          ///< and below
  HostState live_state = HostState::unspecified;
  HostState shadow_state = HostState::unspecified;
};

/// Since the beginning.
struct ShadowTotals {
  std::uint64_t decisions = 0;
  std::uint64_t different = 0;    ///< decisions with any difference
  std::uint64_t differences = 0;  ///< guests with another target, over all decisions
  double more = 0;                ///< bytes, over all decisions
  double less = 0;
};

class Shadow {
 public:
  /// Targets that differ by no more than `tolerance` are the same.
  explicit Shadow(std::unique_ptr<Controller> controller, Bytes tolerance = kMiB);

  /// The shadow's own decision on `snapshot`, against `live`: the live law's on the same, as decided. The
  /// shadow sees the sizes that the live law brings about, never its own.
  const ShadowReport& observe(const Snapshot& snapshot, const Plan& live);

  const ShadowTotals& totals() const { return totals_; }

 private:
  std::unique_ptr<Controller> controller_;
  Bytes tolerance_;
  ShadowReport report_;
  ShadowTotals totals_;
};

}  // namespace balloon::policy
