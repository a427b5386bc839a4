// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/console/console.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {

Result<std::unique_ptr<VirtioDevice>> make_console(SerialBackend& backend, EventLoop& loop) {
  return Console::create(backend, loop);
}

Result<std::unique_ptr<Console>> Console::create(SerialBackend& backend, EventLoop& loop) {
  std::unique_ptr<Console> console(new Console(backend));
  auto queues = DeviceQueues::create(*console, loop);
  if (!queues) return std::unexpected(std::move(queues.error()));
  console->queues_ = std::move(*queues);
  backend.attach(console.get());
  return console;
}

Console::~Console() {
  backend_.attach(nullptr);
  {
    const MutexLock lock(mutex());
    if (queues_) queues_->stop();
  }
  queues_.reset();
}

void Console::read_config(std::uint32_t offset, std::span<std::byte> into) {
  const ConfigSpace space;
  std::memcpy(into.data(), std::as_bytes(std::span(&space, 1)).data() + offset, into.size());
}

void Console::write_config(std::uint32_t offset, std::span<const std::byte> from) {
  // The lowest byte is the character. Nobody waits for its reader here: the mutex is held.
  if (offset != offsetof(ConfigSpace, emergency_write) || from.empty()) return;
  std::byte character = from[0];
  const iovec buffer{.iov_base = &character, .iov_len = 1};
  backend_.transmit_some(std::span(&buffer, 1));
}

void Console::activate(std::uint64_t /*features*/, std::vector<std::unique_ptr<VirtQueue>> queues) {
  queues_->start(host(), std::move(queues));
}

void Console::process_queue(std::uint16_t index) {
  if (static_cast<Queue>(index) == Queue::receive) return deliver();
  queues_->serve(index, [this](VirtQueue& queue, Work& work, TurnBudget& budget)
                            REQUIRES(mutex()) { return transmit(queue, work, budget); });
}

/// One write for each piece.
Progress Console::transmit(VirtQueue& queue, Work& work, TurnBudget& budget) {
  for (;;) {
    to_iovecs(work.chain.readable(), work.done, kPiece, piece_);
    if (piece_.empty()) break;
    if (budget.over()) return Progress::more;
    const std::size_t taken = backend_.transmit_some(piece_);
    budget.spend(Bytes{taken});
    budget.look_at_clock();
    if (taken == 0) return Progress::waits;
    work.done += taken;
  }
  queue.put(std::move(work.chain), 0);
  return Progress::done;
}

void Console::transmit_ready() {
  const MutexLock lock(mutex());
  queues_->come_back(static_cast<std::uint16_t>(Queue::transmit));
}

void Console::deliver() {
  constexpr auto kReceive = static_cast<std::uint16_t>(Queue::receive);
  VirtQueue* queue = queues_->at(kReceive);
  if (queue == nullptr) return;
  // Buffers stay in the ring until there is something to put into them.
  for (TurnBudget budget; !input_.empty(); budget.take_chain()) {
    if (budget.over()) {  // buffers without room, or hardly any
      queues_->come_back(kReceive);
      break;
    }
    auto chain = queue->take();
    if (!chain) return queues_->broken(kReceive, chain.error());
    if (!*chain) {
      if (queue->enable_kicks()) continue;
      break;
    }
    std::array<std::byte, kInputRoom> bytes;
    const std::size_t size = std::min<std::uint64_t>(input_.size(), (*chain)->writable_size());
    std::copy_n(input_.begin(), size, bytes.begin());
    (*chain)->write(0, std::span(bytes).first(size));
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(size));
    queue->put(std::move(**chain), static_cast<std::uint32_t>(size));
  }
  queues_->notify(kReceive);
  if (input_.empty() && std::exchange(source_waits_, false)) backend_.resume_input();
}

void Console::reset() {
  queues_->stop();
  input_.clear();
  if (std::exchange(source_waits_, false)) backend_.resume_input();
}

std::size_t Console::receive_room() const {
  const MutexLock lock(mutex());
  return kInputRoom - input_.size();
}

void Console::receive(std::span<const std::byte> bytes) {
  const MutexLock lock(mutex());
  const std::size_t taken = std::min(bytes.size(), kInputRoom - input_.size());
  input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
  source_waits_ = input_.size() == kInputRoom;
  deliver();
}

}  // namespace balloon::vmm
