// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/wishes.h"

#include <unistd.h>

#include <cstdint>
#include <utility>

namespace balloon::vmm {

Result<std::unique_ptr<Wishes>> Wishes::create(FairMutex& device, EventLoop& loop) {
  std::unique_ptr<Wishes> wishes(new Wishes(device, loop));
  auto event = loop.watch_event([self = wishes.get()] {
    const MutexLock lock(self->device_);
    self->carry_out();
  });
  if (!event) return std::unexpected(event.error());
  wishes->event_ = std::move(*event);
  return wishes;
}

Wishes::~Wishes() {
  if (event_) loop_.unwatch(event_.get());
}

void Wishes::post(Wish wish) {
  {
    const MutexLock lock(mutex_);
    left_.push_back(std::move(wish));
  }
  if (device_.try_lock()) {
    carry_out();
    return device_.unlock();
  }
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, and then the loop comes anyway.
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
}

void Wishes::carry_out() {
  while (true) {
    Wish wish;
    {
      const MutexLock lock(mutex_);
      if (left_.empty()) return;
      wish = std::move(left_.front());
      left_.pop_front();
    }
    wish();
  }
}

}  // namespace balloon::vmm
