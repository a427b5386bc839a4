// SPDX-License-Identifier: Apache-2.0
// The queues of an activated device, and the loop that serves them: the same in every device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/event_loop.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/rate_limit.h"
#include "vmm/virtio/turn_budget.h"

namespace balloon::vmm {

/// A chain that a device works off, over several turns where it is long.
struct Work {
  Chain chain;
  std::uint64_t done = 0;  ///< the device's place in it, in whatever it counts
};

enum class Progress {
  done,   ///< the device has given the chain back, or keeps it
  more,   ///< the turn is over: goes on in the next one
  waits,  ///< for something; the device calls come_back() then
};

class DeviceQueues {
 public:
  /// Does a part of a chain; in small pieces, of which no more is begun once the budget is over.
  using Handler = std::function<Progress(VirtQueue& queue, Work& work, TurnBudget& budget)>;

  /// `device` owns the result. Its process_queue() is called from the loop for what a turn left over.
  static Result<std::unique_ptr<DeviceQueues>> create(VirtioDevice& device, EventLoop& loop);
  ~DeviceQueues();
  DeviceQueues(const DeviceQueues&) = delete;
  DeviceQueues& operator=(const DeviceQueues&) = delete;

  // The rest under the device's mutex.

  /// From activate(). Each queue is looked at once from the loop: Linux kicks the statistics queue before
  /// DRIVER_OK.
  void start(DeviceHost& host, std::vector<std::unique_ptr<VirtQueue>> queues);
  /// From reset(). Chains that the device kept may not be left by then; one under way is forgotten.
  void stop();
  /// From reset_queue(). Likewise, of this queue.
  void remove(std::uint16_t index);
  /// From start_queue().
  void add(std::uint16_t index, std::unique_ptr<VirtQueue> queue);

  /// Queue `index`; null when the driver did not enable it, before start(), after stop() and once broken.
  VirtQueue* at(std::uint16_t index) const;
  /// One turn: hands the chain under way and then each available chain of queue `index` to `handle`, as far
  /// as the budget goes, and raises the interrupt if the guest wants one. What is left has its turn soon.
  void serve(std::uint16_t index, const Handler& handle);
  /// Raises the queue's interrupt if the guest wants one for what was put since the last time.
  void notify(std::uint16_t index);
  /// Looks at queue `index` again, from the loop.
  void come_back(std::uint16_t index);
  /// The guest broke the rules on queue `index`: the device is dead until it is reset.
  void broken(std::uint16_t index, const Error& why);

 private:
  DeviceQueues(VirtioDevice& device, EventLoop& loop) : device_(device), loop_(loop) {}
  struct Slot {
    std::unique_ptr<VirtQueue> queue;
    std::optional<Work> work;  ///< under way
    bool pending = false;      ///< to be looked at when `again_` fires
    void clear();
  };
  void resume();
  void call_loop();

  VirtioDevice& device_;
  EventLoop& loop_;
  UniqueFd again_;
  bool loop_called_ = false;  ///< `again_` has been signalled
  DeviceHost* host_ = nullptr;
  bool broken_ = false;
  RateLimit breaks_;  ///< a guest can break and reset a device as often as it likes
  std::vector<Slot> slots_;
  std::size_t next_ = 0;  ///< the queue whose turn is next
};

}  // namespace balloon::vmm
