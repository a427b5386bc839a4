// What waits to be sent to the daemon: the newest statistics, balloon state and counters, and answers.
// Bounded, so a daemon that does not read costs no memory; the balloon never waits for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

#include "balloon/v1/guest_link.pb.h"

namespace balloon::vmm {

class Outbox {
 public:
  /// The driver reports every mebibyte it moves, a thousand times a second on a quick host; the daemon
  /// decides at most this often (policy::kBurstGap), and each message costs both sides.
  static constexpr std::chrono::milliseconds kBalloonPause{100};

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
  /// balloon is on its way not sooner than kBalloonPause after the one before.
  std::optional<v1::ConnectRequest> take();

 private:
  using Clock = std::chrono::steady_clock;

  void put_result(v1::ConnectRequest result);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  std::optional<v1::GuestStats> stats_;
  std::optional<v1::BalloonUpdate> balloon_;
  std::optional<v1::BalloonCounters> counters_;
  Clock::time_point balloon_not_before_{};
  std::deque<v1::ConnectRequest> results_;  ///< answers, in order
};

}  // namespace balloon::vmm
