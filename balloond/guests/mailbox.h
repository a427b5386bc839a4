// SPDX-License-Identifier: Apache-2.0
// What the daemon asks of one guest, on its way to the thread of its backend.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <utility>

#include "balloond/guests/backend.h"
#include "base/mutex.h"

namespace balloon::daemon {

class Mailbox final : public GuestChannel {
 public:
  using Requests = std::array<std::optional<Request>, kRequestKinds>;  ///< by their kinds

  /// `wake` is called from any thread when something has come.
  explicit Mailbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  void ask(const Request& request) override {
    {
      const MutexLock lock(mutex_);
      requests_.at(static_cast<std::size_t>(request.kind)) = request;
    }
    wake_();
  }
  void set_stats_interval(std::chrono::nanoseconds interval) override {
    {
      const MutexLock lock(mutex_);
      interval_ = interval;
    }
    wake_();
  }

  Requests take_requests() {
    const MutexLock lock(mutex_);
    return std::exchange(requests_, {});
  }
  std::optional<std::chrono::nanoseconds> take_interval() {
    const MutexLock lock(mutex_);
    return std::exchange(interval_, {});
  }

 private:
  const std::function<void()> wake_;
  Mutex mutex_;
  Requests requests_ GUARDED_BY(mutex_);
  std::optional<std::chrono::nanoseconds> interval_ GUARDED_BY(mutex_);
};

}  // namespace balloon::daemon
