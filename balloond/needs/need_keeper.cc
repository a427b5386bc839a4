// SPDX-License-Identifier: Apache-2.0
#include "balloond/needs/need_keeper.h"

#include <utility>

#include "base/log.h"

namespace balloon::daemon {
namespace {

constexpr std::chrono::seconds kTurnEvery{1};

}  // namespace

NeedKeeper::NeedKeeper(const Clock& clock, NeedHistory& history, const std::string& directory)
    : clock_(clock),
      history_(history),
      files_(directory.empty() ? std::nullopt : std::optional<NeedFiles>(directory)) {}

void NeedKeeper::start() {
  thread_ = std::thread([this] { run(); });
}

void NeedKeeper::stop() {
  if (!thread_.joinable()) return;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wakeup_.notify_one();
  thread_.join();
}

void NeedKeeper::run() {
  UniqueLock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    turn();
    lock.lock();
    wakeup_.wait_for(lock.standard(), kTurnEvery, [this]() REQUIRES(mutex_) { return stopping_; });
  }
  if (files_) save();
}

void NeedKeeper::turn() {
  const Time now = clock_.now();
  if (!std::exchange(restored_, true)) {
    if (files_) restore();
    saved_at_ = now;
  }
  if (files_ && now - saved_at_ >= kSaveEvery) {
    save();
    saved_at_ = now;
  }
  if (!renewed_at_ || now - *renewed_at_ >= kRenewEvery) {
    history_.renew();
    renewed_at_ = now;
  }
}

/// Newest first, so that what a window has comes before what is only kept.
void NeedKeeper::restore() {
  std::size_t left = NeedHistory::kDays;
  for (const Day day : files_->days()) {
    if (left-- == 0) return;
    const auto kept = files_->load(day);
    if (kept) {
      history_.restore(*kept);
      continue;
    }
    log::warning("what guests needed on a day is left out, and its file set aside: {}", kept.error().message);
    files_->set_aside(day);
  }
}

void NeedKeeper::save() {
  Result<void> saved;
  for (const DayOfNeeds& each : history_.take_changed()) {
    if (saved) saved = files_->save(each);
    if (!saved) history_.not_kept(each.day);
  }
  files_->prune();
  if (failing_.exchange(!saved.has_value()) == !saved.has_value()) return;
  if (saved) {
    log::info("what guests need is written down again");
  } else {
    log::error("what guests need is not written down, it is tried again in 5 min: {}", saved.error().message);
  }
}

}  // namespace balloon::daemon
