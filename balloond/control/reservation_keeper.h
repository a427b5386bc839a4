// SPDX-License-Identifier: Apache-2.0
// Keeps what is granted on disk: a thread that writes what the book says is not kept yet.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <thread>

#include "balloond/control/reservation_file.h"
#include "base/mutex.h"

namespace balloon::daemon {

class ReservationKeeper {
 public:
  /// What could not be written is tried again after so long, or with the next change.
  static constexpr std::chrono::seconds kRetryAfter{30};

  /// Gives the book what the file has, and keeps it from then on. Before anybody asks. The error is that of
  /// the file: what was granted is not known.
  static Result<std::unique_ptr<ReservationKeeper>> start(ReservationBook& book, ReservationFile file);
  /// Writes what waits.
  ~ReservationKeeper();
  ReservationKeeper(const ReservationKeeper&) = delete;
  ReservationKeeper& operator=(const ReservationKeeper&) = delete;

 private:
  ReservationKeeper(ReservationBook& book, ReservationFile file);
  void wake();
  void run();
  void write();

  ReservationBook& book_;
  const ReservationFile file_;
  Mutex mutex_;
  bool changed_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::condition_variable wakeup_;
  std::thread thread_;
};

}  // namespace balloon::daemon
