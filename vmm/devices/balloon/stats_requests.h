// SPDX-License-Identifier: Apache-2.0
// Who waits for fresh statistics, and whether the guest has been asked. Pure.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vmm/devices/balloon/balloon_control.h"

namespace balloon::vmm {

class StatsRequests {
 public:
  using Reply = std::function<void(Result<BalloonStats>)>;
  using Time = std::chrono::steady_clock::time_point;
  /// A guest that does not answer must not let them pile up.
  static constexpr std::size_t kMostWaiting = 64;

  /// The guest was asked.
  void asked(Time now) { asked_ = now; }
  /// The guest answered what was asked at the returned time; nothing: it was not asked.
  std::optional<Time> answered() { return std::exchange(asked_, std::nullopt); }

  /// False: too many wait already. What the guest was asked before is not new enough for `reply`.
  bool add(Reply& reply) {
    if (soon_.size() + later_.size() >= kMostWaiting) return false;
    (asked_ ? later_ : soon_).push_back(std::move(reply));
    return true;
  }
  /// Somebody waits for values that the guest has not been asked for.
  bool waited_for() const { return !asked_ && !soon_.empty(); }
  /// Gives the values to all whom they are new enough for.
  void reply(const Result<BalloonStats>& stats) {
    for (const Reply& each : std::exchange(soon_, std::exchange(later_, {}))) each(stats);
  }
  /// Nobody will be answered any more.
  void fail_all(const std::string& why) {
    asked_.reset();
    while (!soon_.empty() || !later_.empty()) reply(fail(why));
  }

 private:
  std::optional<Time> asked_;
  std::vector<Reply> soon_;   ///< have the next values
  std::vector<Reply> later_;  ///< have those after the next
};

}  // namespace balloon::vmm
