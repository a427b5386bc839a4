// SPDX-License-Identifier: Apache-2.0
// The guest's side of a virtio device, for tests: lays rings out in real guest memory, builds chains, plays
// the driver. What it writes is not checked, so that it can also play a broken or hostile driver.
#pragma once

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "tests/unit/vmm/address_literals.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm::test {

/// How long a test waits for another thread before it fails: far above any load of the machine.
inline constexpr std::chrono::seconds kPatience{30};

/// Waits until `condition` holds; whether it did in time.
inline bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

inline GuestMemory make_memory(Bytes size = 64 * kMiB) {
  auto memory = GuestMemory::create(size);
  if (!memory) throw std::runtime_error(memory.error().message);
  return std::move(*memory);
}

/// While it lives, the process can open no more than `left` further file descriptors.
class FewDescriptors {
 public:
  explicit FewDescriptors(int left) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit now = before_;
    UniqueFd lowest_free(::dup(STDERR_FILENO));
    now.rlim_cur = static_cast<rlim_t>(lowest_free.get() + left);
    lowest_free.reset();
    ::setrlimit(RLIMIT_NOFILE, &now);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_;
};

/// How many of `count` pages from page `pfn` on the host holds in memory.
inline std::size_t resident_pages(const GuestMemory& memory, std::uint64_t pfn, std::size_t count) {
  std::vector<unsigned char> pages(count);
  const auto host = memory.at(pfn * kPageSize, count * kPageSize);
  if (!host || ::mincore(host->data(), host->size(), pages.data()) != 0) throw std::runtime_error("mincore");
  return static_cast<std::size_t>(
      std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
}

/// Remembers what a device asked of its transport.
class RecordingHost : public DeviceHost {
 public:
  void interrupt_queue(std::uint16_t queue) override {
    const std::lock_guard lock(mutex_);
    queue_interrupts_.resize(std::max<std::size_t>(queue_interrupts_.size(), queue + 1U));
    ++queue_interrupts_[queue];
  }
  void interrupt_config() override {
    const std::lock_guard lock(mutex_);
    ++config_interrupts_;
  }
  void needs_reset(std::string_view why) override {
    const std::lock_guard lock(mutex_);
    reset_reason_ = why;
  }

  int queue_interrupts(std::uint16_t queue) const {
    const std::lock_guard lock(mutex_);
    return queue < queue_interrupts_.size() ? queue_interrupts_[queue] : 0;
  }
  int config_interrupts() const {
    const std::lock_guard lock(mutex_);
    return config_interrupts_;
  }
  /// Why the device asked for a reset; empty when it did not.
  std::string reset_reason() const {
    const std::lock_guard lock(mutex_);
    return reset_reason_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<int> queue_interrupts_;
  int config_interrupts_ = 0;
  std::string reset_reason_;
};

/// A descriptor as the driver writes it.
struct FakeDescriptor {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint16_t flags = 0;
  std::uint16_t next = 0;
};
inline constexpr std::uint16_t kNext = 1;
inline constexpr std::uint16_t kWrite = 2;
inline constexpr std::uint16_t kIndirect = 4;

struct UsedElement {
  std::uint32_t id = 0;
  std::uint32_t length = 0;
};

/// One virtqueue, driver side. Takes 64 KiB of guest memory at `base` for its rings (queues up to 1024), and
/// `arena` bytes behind them for buffers.
class FakeQueue {
 public:
  static constexpr std::uint64_t kRings = 64_KiB;
  static constexpr std::uint64_t kArena = 960_KiB;
  static constexpr std::uint64_t kFootprint = kRings + kArena;

  FakeQueue(const GuestMemory& memory, GuestAddress base, std::uint16_t size, bool event_idx = true,
            bool indirect = true)
      : memory_(memory), arena_(base + kRings), arena_end_(base + kFootprint) {
    layout_ = {.size = size,
               .descriptors = base,
               .available = base + 0x4000,
               .used = base + 0x8000,
               .event_idx = event_idx,
               .indirect = indirect};
  }

  const QueueLayout& layout() const { return layout_; }
  /// Before its first chain: the parts in a row, as legacy drivers have to lay them out (virtio 1.2, 2.7.2).
  void lay_out_as_legacy() {
    layout_.available = layout_.descriptors + 16ULL * layout_.size;
    layout_.used = (layout_.available + 6 + 2ULL * layout_.size + kPageSize - 1) / kPageSize * kPageSize;
  }

  /// Guest memory for a buffer, zeroed. Never given back.
  GuestAddress allocate(std::uint64_t size, std::uint64_t align = 16) {
    const GuestAddress address = (arena_ + align - 1) / align * align;
    if (address + size > arena_end_) throw std::runtime_error("the fake queue's arena is full");
    arena_ = address + size;
    return address;
  }
  GuestAddress allocate(std::span<const std::byte> bytes) {
    const GuestAddress address = allocate(bytes.size());
    memory_.write(address, bytes);
    return address;
  }

  void set_descriptor(std::uint16_t index, const FakeDescriptor& descriptor) {
    memory_.write(layout_.descriptors + index * 16ULL, descriptor);
  }
  /// Any `count` descriptors in a row, wrapping around; their indices are reused once the ring is full.
  std::uint16_t next_descriptor() { return static_cast<std::uint16_t>(next_descriptor_++ % layout_.size); }

  void push_available(std::uint16_t head) {
    memory_.write<std::uint16_t>(layout_.available + 4 + (available_ % layout_.size) * 2ULL, head);
    set_available_index(static_cast<std::uint16_t>(available_ + 1));
  }
  void set_available_index(std::uint16_t index) {
    available_ = index;
    field(layout_.available + 2).store(index, std::memory_order_release);
  }
  std::uint16_t used_index() const { return field(layout_.used + 2).load(std::memory_order_acquire); }
  /// The next chain that the device returned.
  std::optional<UsedElement> pop_used() {
    if (used_index() == seen_used_) return std::nullopt;
    return memory_.read<UsedElement>(layout_.used + 4 + (seen_used_++ % layout_.size) * 8ULL);
  }

  void set_available_flags(std::uint16_t flags) { field(layout_.available).store(flags); }
  std::uint16_t used_flags() const { return field(layout_.used).load(); }
  void set_used_event(std::uint16_t index) {
    field(layout_.available + 4 + layout_.size * 2ULL).store(index);
  }
  std::uint16_t available_event() const { return field(layout_.used + 4 + layout_.size * 8ULL).load(); }

  const GuestMemory& memory() const { return memory_; }

 private:
  std::atomic_ref<std::uint16_t> field(GuestAddress address) const {
    return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(memory_.at(address, 2)->data()));
  }

  const GuestMemory& memory_;
  QueueLayout layout_;
  GuestAddress arena_;
  GuestAddress arena_end_;
  std::uint16_t next_descriptor_ = 0;
  std::uint16_t available_ = 0;
  std::uint16_t seen_used_ = 0;
};

/// A chain put together buffer by buffer, then made available:
///   const auto chain = ChainBuilder(queue).readable(bytes).writable(512).submit();
class ChainBuilder {
 public:
  explicit ChainBuilder(FakeQueue& queue) : queue_(queue) {}

  ChainBuilder& readable(std::span<const std::byte> bytes) {
    return add(queue_.allocate(bytes), static_cast<std::uint32_t>(bytes.size()), 0);
  }
  template <typename T>
  ChainBuilder& readable_values(const std::vector<T>& values) {
    return readable(std::as_bytes(std::span(values)));
  }
  ChainBuilder& writable(std::uint32_t size) { return add(queue_.allocate(size), size, kWrite); }
  ChainBuilder& readable_at(GuestAddress address, std::uint32_t size) { return add(address, size, 0); }
  ChainBuilder& writable_at(GuestAddress address, std::uint32_t size) { return add(address, size, kWrite); }

  /// Writes the descriptors and makes the chain available; its head.
  std::uint16_t submit() {
    std::vector<std::uint16_t> places;
    for (std::size_t i = 0; i < descriptors_.size(); ++i) places.push_back(queue_.next_descriptor());
    for (std::size_t i = 0; i < places.size(); ++i) {
      link(descriptors_[i], i + 1 < places.size() ? std::optional(places[i + 1]) : std::nullopt);
      queue_.set_descriptor(places[i], descriptors_[i]);
    }
    queue_.push_available(places.at(0));
    return places[0];
  }
  /// Likewise, with all descriptors in one indirect table.
  std::uint16_t submit_indirect() {
    const GuestAddress table = queue_.allocate(descriptors_.size() * 16);
    for (std::size_t i = 0; i < descriptors_.size(); ++i) {
      link(descriptors_[i],
           i + 1 < descriptors_.size() ? std::optional(static_cast<std::uint16_t>(i + 1)) : std::nullopt);
      queue_.memory().write(table + i * 16, descriptors_[i]);
    }
    const std::uint16_t head = queue_.next_descriptor();
    queue_.set_descriptor(head, {table, static_cast<std::uint32_t>(descriptors_.size() * 16), kIndirect, 0});
    queue_.push_available(head);
    return head;
  }

  GuestAddress address(std::size_t buffer) const { return descriptors_.at(buffer).address; }

 private:
  static void link(FakeDescriptor& descriptor, std::optional<std::uint16_t> next) {
    if (!next) return;
    descriptor.flags |= kNext;
    descriptor.next = *next;
  }
  ChainBuilder& add(GuestAddress address, std::uint32_t size, std::uint16_t flags) {
    descriptors_.push_back({address, size, flags, 0});
    return *this;
  }

  FakeQueue& queue_;
  std::vector<FakeDescriptor> descriptors_;
};

/// A driver bound to a device: it calls the device as the transport does, with the mutex held.
class FakeDriver {
 public:
  /// Rings and buffers of the queues lie from here on; tests have the memory below and far above for
  /// themselves.
  static constexpr GuestAddress kQueuesStart = 1_MiB;

  FakeDriver(VirtioDevice& device, const GuestMemory& memory) : device_(device), memory_(memory) {
    device_.attach(host_);
  }
  ~FakeDriver() { reset(); }
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;

  /// Negotiates `features` of those offered, and `transport` (none: a legacy driver), sets all queues up and
  /// sets DRIVER_OK.
  void start(std::uint64_t features = ~0ULL, std::uint64_t transport = kFeatureVersion1) {
    features &= device_.offered_features();
    features_ = features;
    queues_.clear();
    queues_.resize(device_.queue_sizes().size());
    std::vector<std::unique_ptr<VirtQueue>> queues;
    for (std::uint16_t i = 0; i < queues_.size(); ++i) queues.push_back(set_up_queue(i));
    const std::lock_guard lock(device_.mutex());
    device_.activate(features | transport, std::move(queues));
  }
  void reset() {
    const std::lock_guard lock(device_.mutex());
    device_.reset();
  }

  /// RING_RESET of one queue, whose rings stay as they are.
  void reset_queue(std::uint16_t index) {
    const std::lock_guard lock(device_.mutex());
    device_.reset_queue(index);
  }
  /// Gives the device queue `index` again, with new rings.
  void restart_queue(std::uint16_t index) {
    auto queue = set_up_queue(index);
    const std::lock_guard lock(device_.mutex());
    device_.start_queue(index, std::move(queue));
  }

  FakeQueue& queue(std::uint16_t index) { return *queues_.at(index); }
  void kick(std::uint16_t index) {
    const std::lock_guard lock(device_.mutex());
    device_.process_queue(index);
  }
  /// Kicks, then waits for the next chain that the device returns on that queue.
  std::optional<UsedElement> kick_and_wait(std::uint16_t index) {
    kick(index);
    std::optional<UsedElement> used;
    eventually([&] { return (used = queue(index).pop_used()).has_value() || !host_.reset_reason().empty(); });
    return used;
  }

  template <typename T>
  T read_config(std::uint32_t offset) {
    T value;
    const std::lock_guard lock(device_.mutex());
    device_.read_config(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  template <typename T>
  void write_config(std::uint32_t offset, T value) {
    const std::lock_guard lock(device_.mutex());
    device_.write_config(offset, std::as_bytes(std::span(&value, 1)));
  }

  RecordingHost& host() { return host_; }

 private:
  std::unique_ptr<VirtQueue> set_up_queue(std::uint16_t index) {
    const GuestAddress base = kQueuesStart + index * FakeQueue::kFootprint;
    clear(base, FakeQueue::kRings);
    queues_.at(index) = std::make_unique<FakeQueue>(memory_, base, device_.queue_sizes()[index],
                                                    (features_ & kFeatureEventIdx) != 0,
                                                    (features_ & kFeatureIndirectDesc) != 0);
    auto queue = VirtQueue::create(memory_, queues_[index]->layout());
    if (!queue) throw std::runtime_error(queue.error().message);
    return std::make_unique<VirtQueue>(std::move(*queue));
  }
  void clear(GuestAddress address, std::uint64_t size) {
    const auto bytes = memory_.at(address, size);
    std::memset(bytes->data(), 0, bytes->size());
  }

  VirtioDevice& device_;
  const GuestMemory& memory_;
  RecordingHost host_;
  std::uint64_t features_ = 0;
  std::vector<std::unique_ptr<FakeQueue>> queues_;
};

}  // namespace balloon::vmm::test
