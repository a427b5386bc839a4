// SPDX-License-Identifier: Apache-2.0
// One thread for what waits for the host's disk, so that a device's loop and its mutex do not.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <thread>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

/// Does one job at a time. The thread comes with the first one: most disks never have any. All calls come
/// from one thread at a time.
class Worker {
 public:
  using Job = std::function<void()>;

  /// Fails only when the process is out of file descriptors.
  static Result<std::unique_ptr<Worker>> create();
  ~Worker();  ///< waits for the job
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// None may be under way. Done on the spot where the host gives no thread.
  void start(Job job);
  /// Readable once the job is done, until has_ended() said so.
  int fd() const { return event_.get(); }
  /// Whether the job that was started is done; true once for each.
  bool has_ended();
  /// Waits until it is; then has_ended() says so.
  void wait();

 private:
  explicit Worker(UniqueFd event) : event_(std::move(event)) {}
  void run();

  const UniqueFd event_;
  Mutex mutex_;
  std::condition_variable changed_;  ///< any of the three below
  Job job_ GUARDED_BY(mutex_);
  bool ended_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace balloon::vmm
