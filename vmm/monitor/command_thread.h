// SPDX-License-Identifier: Apache-2.0
// A thread for commands that take their time (pausing a guest, writing a snapshot), so that other clients of
// the monitor have their answers meanwhile.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <stop_token>
#include <thread>

#include "base/mutex.h"

namespace balloon::vmm {

/// Runs one after the other, in the order in which they came. What waits when it is destroyed is not run;
/// what runs then is waited for.
class CommandThread {
 public:
  using Command = std::function<void()>;

  /// From one thread. The thread comes with the first command; where the host gives none, the command is run
  /// on the spot.
  void run(Command command);

 private:
  void serve(const std::stop_token& stop);

  Mutex mutex_;
  std::condition_variable_any waiting_;
  std::deque<Command> commands_ GUARDED_BY(mutex_);
  std::jthread thread_;  ///< the last member: it ends before what it uses
};

}  // namespace balloon::vmm
