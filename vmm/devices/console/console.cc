#include "vmm/devices/console/console.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

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
    const std::lock_guard lock(mutex);
    if (queues_) queues_->stop();
  }
  queues_.reset();
}

void Console::read_config(std::uint32_t offset, std::span<std::byte> into) {
  const ConfigSpace space;
  std::memcpy(into.data(), std::as_bytes(std::span(&space, 1)).data() + offset, into.size());
}

void Console::write_config(std::uint32_t offset, std::span<const std::byte> from) {
  // The lowest byte is the character.
  if (offset == offsetof(ConfigSpace, emergency_write) && !from.empty()) backend_.transmit(from[0]);
}

void Console::activate(std::uint64_t /*features*/, std::vector<std::unique_ptr<VirtQueue>> queues) {
  queues_->start(host(), std::move(queues));
}

void Console::process_queue(std::uint16_t index) {
  if (static_cast<Queue>(index) == Queue::receive) return deliver();
  queues_->serve(index, [this](VirtQueue& queue, Chain chain) {
    for (const ChainBuffer& buffer : chain.readable()) backend_.transmit_all(buffer.host);
    queue.put(std::move(chain), 0);
  });
}

void Console::deliver() {
  constexpr auto kReceive = static_cast<std::uint16_t>(Queue::receive);
  VirtQueue* queue = queues_->at(kReceive);
  if (queue == nullptr) return;
  // Buffers stay in the ring until there is something to put into them.
  while (!input_.empty()) {
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
  const std::lock_guard lock(mutex);
  return kInputRoom - input_.size();
}

void Console::receive(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex);
  const std::size_t taken = std::min(bytes.size(), kInputRoom - input_.size());
  input_.insert(input_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
  source_waits_ = input_.size() == kInputRoom;
  deliver();
}

}  // namespace balloon::vmm
