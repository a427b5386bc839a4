// SPDX-License-Identifier: Apache-2.0
// What waits to be sent to the daemon: the newest statistics, balloon state and counters, and answers.
// Bounded, so a daemon that does not read costs no memory; the balloon never waits for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <optional>

#include "balloon/v1/guest_link.pb.h"
#include "base/mutex.h"

namespace balloon::vmm {

class Outbox {
 public:
  /// The driver reports every mebibyte it moves, a thousand times a second on a quick host; the daemon
  /// decides at most this often (policy::kBurstGap), and each message costs both sides.
  static constexpr std::chrono::milliseconds kBalloonPause{100};
  /// A balloon that has moved by less than this since it was told waits longer. A quick host's moves a
  /// hundred times that in a second; where a busy guest gives a few pages at a time, each of six such
  /// messages costs the daemon a decision, and its guests get memory in crumbs.
  static constexpr std::uint64_t kBalloonStep = 8 << 20;
  static constexpr std::chrono::milliseconds kBalloonCrumbPause{1000};

  void put(v1::GuestStats stats);
  void put(v1::BalloonUpdate balloon);
  void put(v1::BalloonCounters counters);
  void put(v1::TargetResult result);
  void put(v1::StatsResult result);
  void put(v1::DropResult result);
  void put(v1::MergingResult result);
  /// Forgets everything: what was meant for one stream makes no sense on the next.
  void open();
  /// Ends take() until the next open().
  void close();
  /// Waits for the next message; nothing after close(). A balloon state goes out at once, but while the
  /// balloon is on its way not sooner than kBalloonPause after the one before, and kBalloonCrumbPause if all
  /// that changed since is less than kBalloonStep.
  std::optional<v1::ConnectRequest> take();
  /// What take() would return at that time; nothing where it would wait.
  std::optional<v1::ConnectRequest> take_at(std::chrono::steady_clock::time_point now);

 private:
  using Clock = std::chrono::steady_clock;

  std::optional<v1::ConnectRequest> next(Clock::time_point now) REQUIRES(mutex_);
  /// When the balloon's state that waits may go out.
  Clock::time_point balloon_due() const REQUIRES(mutex_);
  void put_result(v1::ConnectRequest result);

  Mutex mutex_;
  std::condition_variable changed_;
  bool open_ GUARDED_BY(mutex_) = false;
  std::optional<v1::GuestStats> stats_ GUARDED_BY(mutex_);
  std::optional<v1::BalloonUpdate> balloon_ GUARDED_BY(mutex_);
  std::optional<v1::BalloonCounters> counters_ GUARDED_BY(mutex_);
  std::optional<v1::BalloonUpdate> balloon_told_
      GUARDED_BY(mutex_);  ///< the last that was taken, on this stream
  Clock::time_point balloon_told_at_ GUARDED_BY(mutex_){};
  std::deque<v1::ConnectRequest> results_ GUARDED_BY(mutex_);  ///< answers, in order
};

}  // namespace balloon::vmm
