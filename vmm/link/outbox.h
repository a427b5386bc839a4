// What waits to be sent to the daemon: the newest statistics, the newest balloon state, and answers. Bounded,
// so a daemon that does not read costs no memory; the balloon never waits for it.
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
  void put(v1::GuestStats stats);
  void put(v1::BalloonUpdate balloon);
  void put(v1::TargetResult result);
  /// Forgets everything: what was meant for one stream makes no sense on the next.
  void open();
  /// Ends take() until the next open().
  void close();
  /// Waits for the next message; nothing after close(). Balloon states follow each other at least
  /// kBalloonPause apart.
  std::optional<v1::ConnectRequest> take();

 private:
  using Clock = std::chrono::steady_clock;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  std::optional<v1::GuestStats> stats_;
  std::optional<v1::BalloonUpdate> balloon_;
  Clock::time_point balloon_not_before_{};
  std::deque<v1::TargetResult> results_;
};

}  // namespace balloon::vmm
