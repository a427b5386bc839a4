// SPDX-License-Identifier: Apache-2.0
// A decision made by hand, for tests of single steps of the engine. Sizes in MiB.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "policy/decision.h"

namespace balloon::policy {

struct OneGuest {
  std::uint64_t size = 0;  ///< actual and target
  std::uint64_t share = 0;
  std::uint64_t need = 0;
  std::uint64_t claim = 0;
  std::uint64_t grow_below = 0;
  std::uint64_t free = 0;       ///< in it
  std::uint64_t available = 0;  ///< with page cache
  std::uint64_t deadband = 16;
  Pressure pressure = Pressure::none;
  std::uint64_t target = 0;  ///< 0: as its size
  std::uint64_t min = 0;
  std::uint64_t max = 4096;
  bool outgrows = false;
  bool filling = false;
  bool rests = false;
  bool group_over = false;
};

class OneDecision {
 public:
  explicit OneDecision(std::uint64_t budget_mib) { decision.plan.budget = budget_mib * kMiB; }
  OneDecision(const OneDecision&) = delete;
  OneDecision& operator=(const OneDecision&) = delete;

  void add(const OneGuest& guest) {
    histories_.push_back(std::make_unique<GuestHistory>());
    GuestSnapshot seen;
    seen.memory = 4096 * kMiB;
    seen.limits.min = guest.min * kMiB;
    seen.limits.max = guest.max * kMiB;
    seen.actual = guest.size * kMiB;
    seen.target = (guest.target > 0 ? guest.target : guest.size) * kMiB;
    snapshot_.guests.push_back(seen);
    GuestPlan& plan = decision.plan.guests.emplace_back();
    plan.need = guest.need * kMiB;
    plan.share = guest.share * kMiB;
    workspace_.guests.push_back(
        {.history = histories_.back().get(),
         .movable = true,
         .rests = guest.rests,
         .outgrows = guest.outgrows,
         .filling = guest.filling,
         .settling = guest.outgrows ? seen.actual : std::min(seen.actual, seen.target),
         .grow_below = guest.grow_below * kMiB,
         .available = guest.available * kMiB,
         .free = guest.free * kMiB,
         .sampled = seen.actual,
         .deadband = guest.deadband * kMiB,
         .pressure = guest.pressure,
         .over_group = guest.group_over});
    workspace_.consumers.push_back(
        {.levels = Levels({Bytes{0}, Bytes{0}, guest.need * kMiB, guest.claim * kMiB, Bytes{0}, Bytes{0},
                           Bytes{0}, seen.memory})});
  }

  /// What donors are asked for, in MiB.
  double asked(std::size_t guest) const {
    return decision.reclaim.asked(workspace_.guests[guest].excess) / static_cast<double>(kMiB);
  }

 private:
  Snapshot snapshot_;
  Tunables tunables_;
  Workspace workspace_;
  std::vector<std::unique_ptr<GuestHistory>> histories_;

 public:
  Decision decision{.snapshot = snapshot_,
                    .tunables = tunables_,
                    .elapsed = 1,
                    .guests = workspace_.guests,
                    .consumers = workspace_.consumers};
};

}  // namespace balloon::policy
