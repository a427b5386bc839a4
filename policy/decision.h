// SPDX-License-Identifier: Apache-2.0
// One decision, as it goes from step to step of the engine. Each step reads what those before it found, and
// adds what it finds.
#pragma once

#include <span>
#include <vector>

#include "policy/allocation.h"
#include "policy/demand.h"
#include "policy/host_state.h"
#include "policy/probing.h"
#include "policy/progress.h"
#include "policy/reclaim.h"
#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

/// What the engine remembers of one guest from decision to decision.
struct GuestHistory {
  Demand demand;
  Progress progress;
  Probing probing;
  std::optional<Time> blind_since;  ///< without statistics that can be believed
  std::uint64_t decision = 0;       ///< the last one that saw the guest
};

/// What one decision knows of one guest, beside its snapshot, its plan and its levels.
struct GuestDecision {
  GuestHistory* history = nullptr;
  // Assessed:
  bool movable = false;  ///< takes part in the sharing
  bool rests = false;    ///< its balloon frees nothing, and is left alone
  bool tried = false;    ///< it freed nothing before, and is tried again
  bool outgrows =
      false;  ///< its balloon, on the way down: that stops where it is unless others wait for the rest
  bool filling = false;  ///< its page cache grows: it is not probed
  Bytes settling{};      ///< where it will be, at most, once its shrink is done or stopped
  Bytes grow_below{};    ///< grown when it has less
  Bytes hot_cache{};     ///< page cache in use
  Bytes available{};
  Bytes free{};     ///< of that, what is not even page cache
  Bytes sampled{};  ///< its size when that was so
  Bytes deadband{};
  Pressure pressure = Pressure::none;
  bool stuck() const { return rests || tried; }
  // Shared out:
  bool group_full = false;  ///< its group has all that it may have
  bool over_group = false;  ///< its group has more than it may, and it more than its share of that
  // Of donors:
  Excess excess{};  ///< what it has beyond its share
};

/// Room for the guests of a decision, kept to be used again.
struct Workspace {
  std::vector<GuestDecision> guests;
  std::vector<Consumer> consumers;
  std::vector<Bytes> group_sizes;
};

struct Decision {
  const Snapshot& snapshot;
  const Tunables& tunables;
  double elapsed = 0;                  ///< seconds since the decision before
  std::vector<GuestDecision>& guests;  ///< as in the snapshot
  std::vector<Consumer>& consumers;    ///< guests as in the snapshot, then reservations
  Plan plan{};
  std::span<const Bytes> reservation_shares{};
  Reclaim reclaim{};         ///< what is asked of donors
  double surplus_ratio = 1;  ///< of what guests would have beyond their claims, what is free for it
  bool over_budget = false;  ///< guests have more than the budget leaves them beside reservations

  const StateActions& actions() const { return actions_in(plan.level, tunables.actions); }
  const Levels& levels(std::size_t guest) const { return consumers[guest].levels; }
  /// Of a guest's boot memory, what is taken a second though nobody waits for it.
  double shrink_ratio_per_second() const {
    return std::max(tunables.shrink_ratio_per_second, actions().shrink_ratio_per_second);
  }
  /// What of the budget should stay free, for whoever needs it next.
  Bytes headroom() const {
    return static_cast<Bytes>(std::clamp(tunables.headroom_ratio, 0.0, 1.0) *
                              static_cast<double>(plan.budget));
  }
};

}  // namespace balloon::policy
