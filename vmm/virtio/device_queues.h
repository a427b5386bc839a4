// The queues of an activated device, and the loop that serves them: the same in every device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/event_loop.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/rate_limit.h"

namespace balloon::vmm {

class DeviceQueues {
 public:
  /// Chains served before other devices on the loop, and the device's mutex, get their turn: an endless
  /// stream of requests delays others by one turn at most.
  static constexpr int kChainsPerTurn = 32;

  /// `device` owns the result. Its process_queue() is called from the loop for what a turn left over.
  static Result<std::unique_ptr<DeviceQueues>> create(VirtioDevice& device, EventLoop& loop);
  ~DeviceQueues();
  DeviceQueues(const DeviceQueues&) = delete;
  DeviceQueues& operator=(const DeviceQueues&) = delete;

  // The rest under the device's mutex.

  /// From activate(). Each queue is looked at once from the loop: Linux kicks the statistics queue before
  /// DRIVER_OK.
  void start(DeviceHost& host, std::vector<std::unique_ptr<VirtQueue>> queues);
  /// From reset(). No chain of these queues may be left by then.
  void stop();
  /// From reset_queue(). Likewise, of this queue.
  void remove(std::uint16_t index);
  /// From start_queue().
  void add(std::uint16_t index, std::unique_ptr<VirtQueue> queue);

  /// Queue `index`; null when the driver did not enable it, before start(), after stop() and once broken.
  VirtQueue* at(std::uint16_t index) const;
  /// Hands each available chain of queue `index` to `handle`, then raises the interrupt if the guest wants
  /// one.
  void serve(std::uint16_t index, const std::function<void(VirtQueue& queue, Chain chain)>& handle);
  /// Raises the queue's interrupt if the guest wants one for what was put since the last time.
  void notify(std::uint16_t index);
  /// Looks at queue `index` again, from the loop.
  void come_back(std::uint16_t index);
  /// The guest broke the rules on queue `index`: the device is dead until it is reset.
  void broken(std::uint16_t index, const Error& why);

 private:
  DeviceQueues(VirtioDevice& device, EventLoop& loop) : device_(device), loop_(loop) {}
  void resume();

  VirtioDevice& device_;
  EventLoop& loop_;
  UniqueFd again_;
  DeviceHost* host_ = nullptr;
  bool broken_ = false;
  RateLimit breaks_;  ///< a guest can break and reset a device as often as it likes
  std::vector<std::unique_ptr<VirtQueue>> queues_;
  std::vector<bool> pending_;  ///< queues to look at when `again_` fires
};

}  // namespace balloon::vmm
