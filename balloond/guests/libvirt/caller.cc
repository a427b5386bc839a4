// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/caller.h"

#include <utility>

namespace balloon::daemon::libvirt {

Caller::Caller()
    : shared_(std::make_shared<Shared>()),
      thread_([shared = shared_]() mutable { run(std::exchange(shared, {})); }) {}

Caller::~Caller() {
  bool busy = false;
  {
    const MutexLock lock(shared_->mutex);
    shared_->ended = true;
    busy = shared_->busy();
  }
  shared_->changed.notify_one();
  if (busy) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

bool Caller::busy() const {
  const MutexLock lock(shared_->mutex);
  return shared_->busy();
}

void Caller::call(std::function<void()> what) {
  {
    const MutexLock lock(shared_->mutex);
    shared_->next = std::move(what);
  }
  shared_->changed.notify_one();
}

void Caller::run(const std::shared_ptr<Shared>& shared) {
  UniqueLock lock(shared->mutex);
  while (true) {
    shared->changed.wait(lock.standard(),
                         [&]() REQUIRES(shared->mutex) { return shared->next || shared->ended; });
    if (!shared->next) return;
    std::function<void()> what = std::exchange(shared->next, nullptr);
    shared->calling = true;
    lock.unlock();
    what();
    what = nullptr;
    lock.lock();
    shared->calling = false;
  }
}

}  // namespace balloon::daemon::libvirt
