// SPDX-License-Identifier: Apache-2.0
// The control thread: one tick every period, and sooner when something happens.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "balloond/control/tick.h"
#include "base/mutex.h"
#include "base/rate_limit.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

class ControlLoop {
 public:
  /// `observe` is told how long each tick took, and how late it began.
  using Observe = std::function<void(std::chrono::nanoseconds duration, std::chrono::nanoseconds lateness)>;
  ControlLoop(const Clock& clock, Ticker& ticker, std::chrono::nanoseconds period, Observe observe);
  ~ControlLoop();
  ControlLoop(const ControlLoop&) = delete;
  ControlLoop& operator=(const ControlLoop&) = delete;

  /// `pressure` polls POLLPRI when the host's programs wait for memory; may be empty.
  Result<void> start(UniqueFd pressure);
  void stop();

  /// Any thread: when the next tick is due, as far as is known now.
  Time due() const;
  /// One tick, which was wanted when it was due. The thread makes them; without it, whoever has the clock.
  void tick();

  /// Any thread, never blocks: what happened to a guest, judged by whether it is worth a tick before the
  /// period is over.
  void guest_changed(const GuestChange& change);
  /// Any thread, never blocks: there is something to reserve, or no longer.
  void reservations_changed();
  /// Any thread: taken over before the next tick, which comes at once.
  void set_policy(const policy::rules::PolicyFile& policy, std::chrono::nanoseconds period);

  /// No tick for stall_after(): whoever asks for health is told.
  bool stalled() const;
  /// Five periods.
  std::chrono::nanoseconds stall_after() const;
  /// Any thread: how many it has made.
  std::uint64_t ticks() const { return ticks_; }

 private:
  void run();
  Time begin_tick();
  void plan_next(Time wanted, Time ended);
  void wait();
  void take_over();
  void wake(std::chrono::nanoseconds gap);
  /// The same, of what others cause: each source has a share, and waits for the period once it is used up.
  void wake_for(const std::string& source, std::chrono::nanoseconds gap);
  bool is_urgent(const policy::UseSample& sample) const;
  /// Whether an urgent sample tells of more than the one before it did.
  bool tells_news(const GuestChange& change) const;

  const Clock& clock_;
  Ticker& ticker_;
  const Observe observe_;
  UniqueFd wakeup_;
  UniqueFd pressure_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> grows_wait_{false};
  std::atomic<Bytes> margin_min_;
  std::atomic<double> margin_ratio_;
  std::atomic<std::int64_t> last_tick_;  ///< when it ended: Time in nanoseconds
  std::atomic<std::int64_t> planned_;    ///< when the next one is due if nothing happens
  std::atomic<std::int64_t> period_;
  std::atomic<std::uint64_t> ticks_{0};

  mutable Mutex mutex_;
  RateLimit shares_ GUARDED_BY(mutex_);  ///< of wakes
  /// An event wants a tick this long after the last one, and happened then: nothing was late before.
  struct Woken {
    std::chrono::nanoseconds gap;
    Time at{};
  };
  std::optional<Woken> woken_ GUARDED_BY(mutex_);
  std::optional<policy::rules::PolicyFile> new_policy_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace balloon::daemon
