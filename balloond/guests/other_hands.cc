// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/other_hands.h"

#include <utility>

namespace balloon::daemon {
namespace {

/// A balloon that may have been moved by somebody else is not shrunk again before the guest's next
/// statistics: those of a shared socket come every 8 s.
constexpr std::chrono::nanoseconds kSuspicionMax = std::chrono::seconds(10);
/// A guest that has, or just had, less than this part of its size available may have taken memory back by
/// itself: what a kernel counts as available it does not always find in time (guests in the emulated host ran
/// out of memory at a fourteenth).
constexpr unsigned kNearlyNothing = 8;

}  // namespace

/// A target that we did not ask for is somebody else's. A balloon that may give way to a guest out of memory,
/// and has grown, may have done that.
std::optional<Contest> OtherHands::moved(const BalloonState& balloon, Bytes target, bool contested,
                                         const Clock& clock) {
  if (!balloon.driver_ready) {  // its next driver begins anew
    *this = {};
    return std::nullopt;
  }
  if (balloon.target == target) {
    target_is_ours_ = taken_;
    return std::nullopt;
  }
  if (!balloon.obstacle.empty()) return std::nullopt;
  taken_ = false;
  if (!std::exchange(target_is_ours_, false) && !contested) return std::nullopt;
  const Time now = clock.now();
  Contest contest{
      .since = now, .noticed = now, .noticed_wall = clock.wall(), .from = target, .to = balloon.target};
  if (!balloon.deflate_on_oom || balloon.target <= target) return contest;
  suspicion_ = std::move(contest);
  return std::nullopt;
}

std::optional<Contest> OtherHands::judge(const std::optional<policy::UseSample>& before,
                                         const StatsSample& said, Bytes actual) {
  const auto suspicion = std::exchange(suspicion_, {});
  if (!suspicion || !said.available) return std::nullopt;
  const bool had_nothing = before && before->available < before->actual / kNearlyNothing;
  const bool gave_way = had_nothing || *said.available < actual / kNearlyNothing;
  return gave_way ? std::nullopt : suspicion;
}

bool OtherHands::bar(Bytes target, Bytes actual, Time now) const {
  return suspicion_ && target < actual && now - suspicion_->noticed < kSuspicionMax;
}

}  // namespace balloon::daemon
