// SPDX-License-Identifier: Apache-2.0
// Whether decisions are applied. They are not in a dry run, nor while an operator has paused control: what
// would be done is decided, explained and recorded all the same, and no balloon is moved.
#pragma once

#include <optional>
#include <string>

#include "balloond/clock.h"
#include "base/mutex.h"

namespace balloon::daemon {

/// Thread-safe.
class ControlSwitch {
 public:
  explicit ControlSwitch(const Clock& clock) : clock_(clock) {}

  void set_dry_run(bool dry_run);
  /// Until resume(), or for a time. `who`: for people.
  void pause(std::optional<std::chrono::nanoseconds> duration, std::string who);
  /// False when it was not paused.
  bool resume();
  /// Why decisions are not applied now; empty while they are. Says so in the log when a pause runs out.
  std::string obstacle();

 private:
  struct Pause {
    std::string who;
    std::optional<Time> end;
    WallTime end_wall{};
  };

  const Clock& clock_;
  Mutex mutex_;
  bool dry_run_ GUARDED_BY(mutex_) = false;
  std::optional<Pause> pause_ GUARDED_BY(mutex_);
};

}  // namespace balloon::daemon
