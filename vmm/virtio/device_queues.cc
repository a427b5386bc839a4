// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/device_queues.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {

Result<std::unique_ptr<DeviceQueues>> DeviceQueues::create(VirtioDevice& device, EventLoop& loop) {
  std::unique_ptr<DeviceQueues> queues(new DeviceQueues(device, loop));
  auto again = loop.watch_event([self = queues.get()] { self->resume(); });
  if (!again) return fail(fmt::format("preparing the queues of {}", device.name()), again.error());
  queues->again_ = std::move(*again);
  return queues;
}

DeviceQueues::~DeviceQueues() {
  if (again_) loop_.unwatch(again_.get());
}

void DeviceQueues::Slot::clear() {
  // Not to be returned: the rings are no longer ours to write.
  if (work) VirtQueue::forget(std::move(work->chain));
  work.reset();
  queue.reset();
  pending = false;
}

void DeviceQueues::start(DeviceHost& host, std::vector<std::unique_ptr<VirtQueue>> queues) {
  stop();
  host_ = &host;
  broken_ = false;
  slots_.resize(queues.size());
  for (std::size_t index = 0; index < queues.size(); ++index)
    add(static_cast<std::uint16_t>(index), std::move(queues[index]));
}

void DeviceQueues::stop() {
  for (Slot& slot : slots_) slot.clear();
  slots_.clear();
}

void DeviceQueues::remove(std::uint16_t index) {
  if (index < slots_.size()) slots_[index].clear();
}

void DeviceQueues::add(std::uint16_t index, std::unique_ptr<VirtQueue> queue) {
  if (index >= slots_.size()) return;
  slots_[index].queue = std::move(queue);
  come_back(index);
}

VirtQueue* DeviceQueues::at(std::uint16_t index) const {
  return broken_ || index >= slots_.size() ? nullptr : slots_[index].queue.get();
}

void DeviceQueues::serve(std::uint16_t index, const Handler& handle) {
  VirtQueue* queue = at(index);
  if (queue == nullptr) return;
  std::optional<Work>& work = slots_[index].work;
  TurnBudget budget;
  Progress progress = Progress::done;
  do {
    queue->disable_kicks();
    while (!budget.over()) {
      if (!work) {
        auto chain = queue->take();
        if (!chain) return broken(index, chain.error());
        if (!*chain) break;
        work.emplace(std::move(**chain));
        budget.take_chain();
      }
      progress = handle(*queue, *work, budget);
      if (progress != Progress::done) break;
      work.reset();
    }
    // Kicks stay off: whoever goes on with the queue comes by himself.
    if (progress == Progress::waits) break;
    if (progress == Progress::more || budget.over()) {
      come_back(index);
      break;
    }
  } while (queue->enable_kicks());
  notify(index);
}

void DeviceQueues::notify(std::uint16_t index) {
  if (VirtQueue* queue = at(index); queue != nullptr && queue->should_interrupt())
    host_->interrupt_queue(index);
}

void DeviceQueues::come_back(std::uint16_t index) {
  if (at(index) == nullptr) return;
  slots_[index].pending = true;
  call_loop();
}

void DeviceQueues::call_loop() {
  if (std::exchange(loop_called_, true)) return;
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, and then the loop comes anyway.
  [[maybe_unused]] const ssize_t written = ::write(again_.get(), &one, sizeof one);
}

void DeviceQueues::broken(std::uint16_t index, const Error& why) {
  broken_ = true;
  const std::string reason = fmt::format("queue {}: {}", index, why.message);
  if (const auto times = breaks_.happened()) {
    log::warning("{}: the guest broke the rules, needs a reset ({} times): {}", device_.name(), *times,
                 reason);
  }
  host_->needs_reset(reason);
}

void DeviceQueues::resume() {
  const MutexLock lock(device_.mutex());
  loop_called_ = false;
  // One queue a turn: between two, others have the loop and the mutex.
  const auto is_pending = [this](std::size_t i) { return slots_[i % slots_.size()].pending; };
  for (std::size_t i = next_; i < next_ + slots_.size(); ++i) {
    if (!is_pending(i)) continue;
    const std::size_t index = i % slots_.size();
    slots_[index].pending = false;
    next_ = index + 1;
    device_.process_queue(static_cast<std::uint16_t>(index));
    break;
  }
  if (std::ranges::any_of(slots_, &Slot::pending)) call_loop();
}

}  // namespace balloon::vmm
