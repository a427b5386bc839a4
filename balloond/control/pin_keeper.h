// SPDX-License-Identifier: Apache-2.0
// Keeps pins on disk: who sets or ends one is answered once that is written down, by a thread that writes.
#pragma once

#include <condition_variable>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "balloond/control/pin_file.h"
#include "base/mutex.h"

namespace balloon::daemon {

class PinKeeper {
 public:
  using Tell = std::function<void(const Result<void>&)>;

  explicit PinKeeper(Registry& guests) : guests_(guests) {}
  /// Writes what waits.
  ~PinKeeper();
  PinKeeper(const PinKeeper&) = delete;
  PinKeeper& operator=(const PinKeeper&) = delete;

  /// Gives the registry what the file has, and keeps pins there from then on; without it they end with the
  /// daemon. Before anybody asks.
  Result<void> start(PinFile file);
  /// `tell` is called once: when the pins that there are now are on the disk, or cannot be written.
  void keep(Tell tell);

 private:
  void run();

  Registry& guests_;
  std::optional<PinFile> file_;
  Mutex mutex_;
  std::vector<Tell> waiting_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::condition_variable wakeup_;
  std::thread thread_;
};

}  // namespace balloon::daemon
