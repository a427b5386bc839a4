// SPDX-License-Identifier: Apache-2.0
// A clock that stands still until a test moves it.
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <thread>

#include "vmm/clock.h"
#include "vmm/event_loop.h"

namespace balloon::vmm::test {

class ManualClock final : public Clock {
 public:
  Time now() const override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  Result<UniqueFd> alarm() override {
    UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return fail_errno("creating an eventfd", errno);
    return fd;
  }
  void set(int alarm, std::chrono::nanoseconds interval) override {
    const std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(alarm, &count, sizeof count);  // as timerfd_settime does
    alarms_.erase(alarm);
    if (interval > interval.zero()) alarms_[alarm] = {now_ + interval, interval};
  }
  void forget(int alarm) override {
    const std::lock_guard lock(mutex_);
    alarms_.erase(alarm);
  }

  /// That much time passes at once: an alarm that is due several times meanwhile goes off once.
  void advance(std::chrono::nanoseconds time) {
    const std::lock_guard lock(mutex_);
    now_ += time;
    for (auto& [fd, alarm] : alarms_) {
      if (alarm.due > now_) continue;
      const std::uint64_t times = 1 + static_cast<std::uint64_t>((now_ - alarm.due) / alarm.interval);
      alarm.due += static_cast<std::int64_t>(times) * alarm.interval;
      ASSERT_EQ(::write(fd, &times, sizeof times), 8);
    }
  }

 private:
  struct Alarm {
    Time due;
    std::chrono::nanoseconds interval;
  };
  mutable std::mutex mutex_;
  Time now_{std::chrono::hours(1)};  // not the epoch, which stands for "never"
  std::map<int, Alarm> alarms_;
};

/// Waits until the loop has called back for all that was ready before: descriptors are served in the order in
/// which they became ready.
inline void catch_up(EventLoop& loop) {
  std::atomic<bool> called = false;
  const UniqueFd last = *loop.watch_event([&] {
    called = true;
    called.notify_all();
  });
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(last.get(), &one, sizeof one), 8);
  called.wait(false);
  loop.unwatch(last.get());
}

}  // namespace balloon::vmm::test
