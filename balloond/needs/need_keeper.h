// SPDX-License-Identifier: Apache-2.0
// Keeps what guests needed on disk: takes over what was kept before, and writes down what has come since.
#pragma once

#include <atomic>
#include <condition_variable>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "balloond/needs/need_files.h"
#include "base/mutex.h"

namespace balloon::daemon {

class NeedKeeper {
 public:
  /// A daemon that is killed loses this much of a day.
  static constexpr std::chrono::nanoseconds kSaveEvery = std::chrono::minutes(5);
  /// How old figures() may be.
  static constexpr std::chrono::nanoseconds kRenewEvery = std::chrono::minutes(1);

  /// `directory` is empty: nothing is kept, figures are made all the same.
  NeedKeeper(const Clock& clock, NeedHistory& history, const std::string& directory);
  ~NeedKeeper() { stop(); }
  NeedKeeper(const NeedKeeper&) = delete;
  NeedKeeper& operator=(const NeedKeeper&) = delete;

  /// A thread makes the turns from here on: the first takes over what was kept.
  void start();
  /// Writes down what is not yet.
  void stop();
  /// Does what is due. Called once a second by the thread; tests call it themselves.
  void turn();
  /// The newest attempt to write has failed.
  bool failing() const { return failing_; }

 private:
  void run();
  void restore();
  void save();

  const Clock& clock_;
  NeedHistory& history_;
  const std::optional<NeedFiles> files_;
  bool restored_ = false;
  Time saved_at_{};
  std::optional<Time> renewed_at_;
  std::atomic<bool> failing_{false};

  Mutex mutex_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::condition_variable wakeup_;
  std::thread thread_;
};

}  // namespace balloon::daemon
