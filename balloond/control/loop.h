// The control thread: one tick every period, and sooner when something happens.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "balloond/control/tick.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

class ControlLoop {
 public:
  /// `observe` is told how long each tick took.
  ControlLoop(const Clock& clock, Ticker& ticker, std::chrono::nanoseconds period,
              std::function<void(std::chrono::nanoseconds)> observe);
  ~ControlLoop();
  ControlLoop(const ControlLoop&) = delete;
  ControlLoop& operator=(const ControlLoop&) = delete;

  /// `pressure` polls POLLPRI when the host's programs wait for memory; may be empty.
  Result<void> start(UniqueFd pressure);
  void stop();

  /// Any thread, never blocks: what happened to a guest, judged by whether it is worth a tick before the
  /// period is over.
  void guest_changed(const GuestChange& change);
  /// Any thread, never blocks: there is something to reserve, or no longer.
  void reservations_changed();
  /// Any thread: taken over before the next tick, which comes at once.
  void set_policy(const policy::rules::PolicyFile& policy, std::chrono::nanoseconds period);

  /// No tick for five periods: whoever asks for health is told.
  bool stalled() const;

 private:
  void run();
  void wait();
  void take_over();
  void wake(std::chrono::nanoseconds gap);
  Time due() const;
  bool is_urgent(const policy::UseSample& sample) const;
  /// Whether an urgent sample tells of more than the one before it did.
  bool tells_news(const GuestChange& change) const;

  const Clock& clock_;
  Ticker& ticker_;
  const std::function<void(std::chrono::nanoseconds)> observe_;
  UniqueFd wakeup_;
  UniqueFd pressure_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> grows_wait_{false};
  std::atomic<Bytes> margin_min_;
  std::atomic<double> margin_ratio_;
  std::atomic<std::int64_t> last_tick_;  ///< Time in nanoseconds
  std::atomic<std::int64_t> period_;

  mutable std::mutex mutex_;                       ///< guards the two below
  std::optional<std::chrono::nanoseconds> woken_;  ///< an event wants a tick this long after the last one
  std::optional<policy::rules::PolicyFile> new_policy_;
  std::thread thread_;
};

}  // namespace balloon::daemon
