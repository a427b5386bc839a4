// SPDX-License-Identifier: Apache-2.0
// A thread for calls that may take as long as another program likes, or for ever: the caller of one never
// waits for it, and gives it up when it takes too long.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <thread>

#include "base/mutex.h"

namespace balloon::daemon::libvirt {

class Caller {
 public:
  Caller();
  /// Does not wait for a call that is under way or about to begin: the thread ends when it returns.
  ~Caller();
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  /// Whether a call is under way, or about to begin.
  bool busy() const;
  /// Makes a call, which owns all that it uses, as soon as the one before has returned.
  void call(std::function<void()> what);
  /// Expires once its thread has ended.
  std::weak_ptr<void> trace() const { return shared_; }

 private:
  struct Shared {
    mutable Mutex mutex;
    std::condition_variable changed;
    std::function<void()> next GUARDED_BY(mutex);
    bool calling GUARDED_BY(mutex) = false;
    bool ended GUARDED_BY(mutex) = false;
    bool busy() const REQUIRES(mutex) { return calling || next; }
  };
  static void run(const std::shared_ptr<Shared>& shared);

  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

}  // namespace balloon::daemon::libvirt
