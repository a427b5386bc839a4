#include "vmm/virtio/device_queues.h"

#include <fmt/format.h>
#include <unistd.h>

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

void DeviceQueues::start(DeviceHost& host, std::vector<std::unique_ptr<VirtQueue>> queues) {
  host_ = &host;
  broken_ = false;
  queues_ = std::move(queues);
  pending_.assign(queues_.size(), false);
  for (std::size_t index = 0; index < queues_.size(); ++index) come_back(static_cast<std::uint16_t>(index));
}

void DeviceQueues::stop() {
  queues_.clear();
  pending_.clear();
}

void DeviceQueues::remove(std::uint16_t index) {
  if (index >= queues_.size()) return;
  queues_[index].reset();
  pending_[index] = false;
}

void DeviceQueues::add(std::uint16_t index, std::unique_ptr<VirtQueue> queue) {
  if (index >= queues_.size()) return;
  queues_[index] = std::move(queue);
  come_back(index);
}

VirtQueue* DeviceQueues::at(std::uint16_t index) const {
  return broken_ || index >= queues_.size() ? nullptr : queues_[index].get();
}

void DeviceQueues::serve(std::uint16_t index, const std::function<void(VirtQueue&, Chain)>& handle) {
  VirtQueue* queue = at(index);
  if (queue == nullptr) return;
  int left = kChainsPerTurn;
  do {
    queue->disable_kicks();
    for (; left > 0; --left) {
      auto chain = queue->take();
      if (!chain) return broken(index, chain.error());
      if (!*chain) break;
      handle(*queue, std::move(**chain));
    }
    if (left == 0) {
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
  pending_[index] = true;
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
  const std::lock_guard lock(device_.mutex);
  for (std::size_t index = 0; index < pending_.size(); ++index) {
    if (pending_[index]) {
      pending_[index] = false;
      device_.process_queue(static_cast<std::uint16_t>(index));
    }
  }
}

}  // namespace balloon::vmm
