// SPDX-License-Identifier: Apache-2.0
// What others want of a device: they post it, and never wait for the device.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/event_loop.h"
#include "vmm/virtio/fair_mutex.h"

namespace balloon::vmm {

/// A value that a device publishes, for others to read at any time.
template <typename Value>
class Published {
 public:
  void set(const Value& value) {
    const MutexLock lock(mutex_);
    value_ = value;
  }
  /// Changes a part of it.
  template <typename Change>
  void change(Change change) {
    const MutexLock lock(mutex_);
    change(value_);
  }
  Value get() const {
    const MutexLock lock(mutex_);
    return value_;
  }

 private:
  mutable Mutex mutex_;  ///< held for a copy, no longer
  Value value_ GUARDED_BY(mutex_){};
};

/// Thread-safe. Wishes are carried out in the order in which they came, with the device's mutex held: at once
/// where nobody has it, else on the device's loop.
class Wishes {
 public:
  using Wish = std::function<void()>;

  static Result<std::unique_ptr<Wishes>> create(FairMutex& device, EventLoop& loop);
  ~Wishes();  ///< what is left is not carried out
  Wishes(const Wishes&) = delete;
  Wishes& operator=(const Wishes&) = delete;

  void post(Wish wish);
  /// Carries out what is left. With the device's mutex held.
  void carry_out();

 private:
  Wishes(FairMutex& device, EventLoop& loop) : device_(device), loop_(loop) {}

  FairMutex& device_;
  EventLoop& loop_;
  UniqueFd event_;
  Mutex mutex_;  ///< nothing else is taken under it
  std::deque<Wish> left_ GUARDED_BY(mutex_);
};

}  // namespace balloon::vmm
