// SPDX-License-Identifier: Apache-2.0
// One thread, one epoll: file descriptors and timers call back here.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/clock.h"

namespace balloon::vmm {

class EventLoop {
 public:
  using Callback = std::function<void()>;

  /// The clock is that of its timers, and of the devices that it serves.
  static Result<std::unique_ptr<EventLoop>> create(const std::string& thread_name,
                                                   Clock& clock = Clock::system());
  ~EventLoop();  ///< stops and joins
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// Calls `callback` on the loop's thread while `fd` is readable (level-triggered). The fd must outlive the
  /// watch.
  Result<void> watch(int fd, Callback callback);
  /// Likewise, while `fd` takes what is written to it. A descriptor is watched for one of the two.
  Result<void> watch_writable(int fd, Callback callback);
  /// After it returns, the callback does not run and will not run (unless called from within it: then not
  /// again).
  void unwatch(int fd);
  /// An eventfd that the loop drains before it calls back. Owned by the caller; unwatch() before closing it.
  Result<UniqueFd> watch_event(Callback callback);

  /// A periodic timer. Zero stops it. Callable from any thread.
  class Timer;
  Result<std::unique_ptr<Timer>> timer(Callback callback);

  /// Once it returns, no callback runs until resume(); events wait. Not from a callback of this loop.
  void pause();
  void resume();

  void stop();

  Clock& clock() const { return clock_; }

 private:
  struct Impl;
  Result<void> watch(int fd, std::uint32_t events, Callback callback);
  EventLoop(std::unique_ptr<Impl> impl, Clock& clock);
  std::unique_ptr<Impl> impl_;
  Clock& clock_;
};

class EventLoop::Timer {
 public:
  ~Timer();
  /// First after `interval`, then every `interval`; zero stops.
  void set(std::chrono::nanoseconds interval);

 private:
  friend class EventLoop;
  Timer(EventLoop& loop, UniqueFd fd);
  EventLoop& loop_;
  UniqueFd fd_;
};

}  // namespace balloon::vmm
