// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/reservation_keeper.h"

#include <utility>

#include "base/log.h"

namespace balloon::daemon {

Result<std::unique_ptr<ReservationKeeper>> ReservationKeeper::start(ReservationBook& book,
                                                                    ReservationFile file) {
  const auto all = file.load();
  if (!all) return std::unexpected(all.error());
  book.restore(*all);
  if (!all->grants.empty())
    log::info("{} reservations are in force again, by {}", all->grants.size(), file.path());
  return std::unique_ptr<ReservationKeeper>(new ReservationKeeper(book, std::move(file)));
}

ReservationKeeper::ReservationKeeper(ReservationBook& book, ReservationFile file)
    : book_(book), file_(std::move(file)) {
  // The book is written once at the start, so that a disk that takes nothing is known before somebody asks.
  book_.keep_by([this] { wake(); });
  thread_ = std::thread([this] { run(); });
}

ReservationKeeper::~ReservationKeeper() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wakeup_.notify_one();
  thread_.join();
}

void ReservationKeeper::wake() {
  {
    const MutexLock lock(mutex_);
    changed_ = true;
  }
  wakeup_.notify_one();
}

void ReservationKeeper::run() {
  while (true) {
    bool last = false;
    {
      UniqueLock lock(mutex_);
      const auto due = [this]() REQUIRES(mutex_) { return changed_ || stopping_; };
      if (book_.failing()) {
        wakeup_.wait_for(lock.standard(), kRetryAfter, due);
      } else {
        wakeup_.wait(lock.standard(), due);
      }
      changed_ = false;
      last = stopping_;
    }
    write();
    if (last) return;
  }
}

void ReservationKeeper::write() {
  const auto all = book_.unkept();
  if (!all) return;
  const bool failed_before = book_.failing();
  const auto saved = file_.save(*all);
  if (saved) {
    if (failed_before) log::info("reservations are written down again, in {}", file_.path());
    return book_.kept(all->revision);
  }
  if (!failed_before)
    log::error("reservations are neither granted nor released, for they cannot be written down: {}",
               saved.error().message);
  book_.not_kept(all->revision, saved.error().message);
}

}  // namespace balloon::daemon
