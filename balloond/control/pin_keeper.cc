// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/pin_keeper.h"

#include <utility>

#include "base/log.h"

namespace balloon::daemon {

PinKeeper::~PinKeeper() {
  if (!thread_.joinable()) return;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wakeup_.notify_one();
  thread_.join();
}

Result<void> PinKeeper::start(PinFile file) {
  auto pins = file.load();
  if (!pins) return std::unexpected(pins.error());
  if (!pins->empty()) log::info("{} pins hold again, by {}", pins->size(), file.path());
  guests_.await_pins(std::move(*pins));
  file_.emplace(std::move(file));
  thread_ = std::thread([this] { run(); });
  return {};
}

void PinKeeper::keep(Tell tell) {
  if (!file_) return tell({});
  {
    const MutexLock lock(mutex_);
    waiting_.push_back(std::move(tell));
  }
  wakeup_.notify_one();
}

void PinKeeper::run() {
  while (true) {
    std::vector<Tell> told;
    {
      UniqueLock lock(mutex_);
      wakeup_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return !waiting_.empty() || stopping_; });
      if (waiting_.empty()) return;
      told.swap(waiting_);
    }
    const Result<void> saved = file_->save(guests_.all_pins());
    if (!saved) log::error("a pin cannot be written down: {}", saved.error().message);
    for (const Tell& tell : told) tell(saved);
  }
}

}  // namespace balloon::daemon
