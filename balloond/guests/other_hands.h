// SPDX-License-Identifier: Apache-2.0
// Whether somebody else moves a guest's balloon: a person at a monitor, another controller. A guest out of
// memory may take some of it back by itself, which is nobody's hand.
#pragma once

#include <optional>

#include "balloond/clock.h"
#include "balloond/guests/guest_record.h"
#include "policy/urgency.h"

namespace balloon::daemon {

/// Of one guest; a new one begins with each size that we ask for.
class OtherHands {
 public:
  /// What the hypervisor said to the size that we asked for.
  void answered(bool taken) { taken_ = taken; }
  /// The balloon as it is now, with no request of ours on its way. `target`: the newest that we know of;
  /// `contested`: it was somebody else's already. Returns a contest that this shows.
  std::optional<Contest> moved(const BalloonState& balloon, Bytes target, bool contested, const Clock& clock);
  /// New statistics tell whether a balloon that gave memory back did so to a guest out of memory; `before`:
  /// the use by the statistics before these. Returns a contest that they show.
  std::optional<Contest> judge(const std::optional<policy::UseSample>& before, const StatsSample& said,
                               Bytes actual);
  /// It has our target again: somebody else's hand was none, or undid what it had done.
  void given_back() {
    taken_ = target_is_ours_ = true;
    suspicion_.reset();
  }
  /// A balloon that rests where it is wanted is ours, whoever brought it there.
  void rests(bool where_wanted) { target_is_ours_ = where_wanted; }
  /// Whether it is not to be shrunk to `target` yet, as the next statistics tell first who moved it.
  bool bar(Bytes target, Bytes actual, Time now) const;

 private:
  bool taken_ = false;           ///< the newest target, by the hypervisor
  bool target_is_ours_ = false;  ///< and it has said so; nobody has moved it since
  std::optional<Contest> suspicion_;
};

}  // namespace balloon::daemon
