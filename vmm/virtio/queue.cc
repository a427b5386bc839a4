#include "vmm/virtio/queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

namespace balloon::vmm {
namespace {

// Rings as in virtio 1.2, 2.7. Fields are little-endian: as this host is.
static_assert(std::endian::native == std::endian::little);

constexpr std::uint16_t kDescriptorNext = 1;
constexpr std::uint16_t kDescriptorWrite = 2;
constexpr std::uint16_t kDescriptorIndirect = 4;
constexpr std::uint64_t kDescriptorSize = 16;

constexpr std::uint16_t kAvailableNoInterrupt = 1;
constexpr std::uint16_t kUsedNoNotify = 1;

// Both rings: flags, index, elements; then used_event or avail_event.
constexpr std::size_t kRingFlags = 0;
constexpr std::size_t kRingIndex = 2;
constexpr std::size_t kRingElements = 4;
constexpr std::size_t kAvailableElement = 2;
constexpr std::size_t kUsedElement = 8;
constexpr std::size_t kRingEnd = 2;

constexpr std::uint16_t kMaxQueueSize = 32768;
constexpr std::uint64_t kMaxChainBytes = 1ULL << 32;  // 2.7.5.2
constexpr std::uint64_t kDescriptorsAlign = 16;
constexpr std::uint64_t kAvailableAlign = 2;
constexpr std::uint64_t kUsedAlign = 4;

/// A 16-bit ring field that the guest reads or writes at the same time. Both rings are at even addresses.
std::atomic_ref<std::uint16_t> field(std::span<std::byte> ring, std::size_t offset) {
  return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(ring.data() + offset));
}

/// The one read of a guest-controlled value: the barrier keeps the compiler from reading it again after the
/// checks.
template <typename T>
T copy_once(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return value;
}

std::uint64_t total(std::span<const ChainBuffer> buffers) {
  std::uint64_t sum = 0;  // at most 32768 descriptors of 4 GiB: cannot wrap
  for (const ChainBuffer& buffer : buffers) sum += buffer.host.size();
  return sum;
}

/// Calls `each` with the host bytes of [offset, offset + size) of the buffers, in order; returns how many
/// there were.
template <typename Each>
std::size_t for_bytes(std::span<const ChainBuffer> buffers, std::uint64_t offset, std::size_t size,
                      Each each) {
  std::size_t done = 0;
  for (const ChainBuffer& buffer : buffers) {
    if (done == size) break;
    if (offset >= buffer.host.size()) {
      offset -= buffer.host.size();
      continue;
    }
    const std::span<std::byte> part =
        buffer.host.subspan(offset, std::min(buffer.host.size() - offset, size - done));
    each(part, done);
    done += part.size();
    offset = 0;
  }
  return done;
}

}  // namespace

Chain::Chain(VirtQueue& queue, std::uint16_t head) : queue_(&queue), head_(head) {}

Chain::Chain(Chain&& other) noexcept
    : queue_(std::exchange(other.queue_, nullptr)),
      head_(other.head_),
      readable_(std::move(other.readable_)),
      writable_(std::move(other.writable_)) {}

Chain::~Chain() {
  if (queue_ != nullptr) queue_->put_head(head_, 0);
}

std::uint64_t Chain::readable_size() const { return total(readable_); }

std::uint64_t Chain::writable_size() const { return total(writable_); }

std::size_t Chain::read(std::uint64_t offset, std::span<std::byte> into) const {
  return for_bytes(readable_, offset, into.size(), [&](std::span<std::byte> part, std::size_t done) {
    std::memcpy(into.data() + done, part.data(), part.size());
  });
}

std::size_t Chain::write(std::uint64_t offset, std::span<const std::byte> from) const {
  return for_bytes(writable_, offset, from.size(), [&](std::span<std::byte> part, std::size_t done) {
    std::memcpy(part.data(), from.data() + done, part.size());
  });
}

struct VirtQueue::Descriptor {
  GuestAddress address;
  std::uint32_t length;
  std::uint16_t flags;
  std::uint16_t next;
};

Result<VirtQueue> VirtQueue::create(const GuestMemory& memory, const QueueLayout& layout) {
  static_assert(sizeof(Descriptor) == kDescriptorSize);
  if (!std::has_single_bit(layout.size) || layout.size > kMaxQueueSize) {
    return fail(fmt::format("queue size {}: must be a power of two, at most {}", layout.size, kMaxQueueSize));
  }
  const auto part = [&](const char* what, GuestAddress address, std::uint64_t size,
                        std::uint64_t align) -> Result<std::span<std::byte>> {
    if (address % align != 0)
      return fail(fmt::format("{} at {:#x}: not aligned to {}", what, address, align));
    const auto host = memory.at(address, size);
    if (!host) return fail(fmt::format("{} at {:#x}, {} bytes: not in guest RAM", what, address, size));
    return *host;
  };
  const auto descriptors =
      part("descriptor table", layout.descriptors, layout.size * kDescriptorSize, kDescriptorsAlign);
  if (!descriptors) return std::unexpected(descriptors.error());
  const auto available = part("available ring", layout.available,
                              kRingElements + layout.size * kAvailableElement + kRingEnd, kAvailableAlign);
  if (!available) return std::unexpected(available.error());
  const auto used =
      part("used ring", layout.used, kRingElements + layout.size * kUsedElement + kRingEnd, kUsedAlign);
  if (!used) return std::unexpected(used.error());
  return VirtQueue(memory, layout, *descriptors, *available, *used);
}

VirtQueue::VirtQueue(const GuestMemory& memory, const QueueLayout& layout, std::span<std::byte> descriptors,
                     std::span<std::byte> available, std::span<std::byte> used)
    : memory_(&memory), layout_(layout), descriptors_(descriptors), available_(available), used_(used) {}

Result<std::optional<Chain>> VirtQueue::take() {
  // Acquire: what the driver wrote before it moved the index is visible after this.
  const std::uint16_t available = field(available_, kRingIndex).load(std::memory_order_acquire);
  const auto pending = static_cast<std::uint16_t>(available - next_available_);
  if (pending == 0) return std::nullopt;
  if (pending > layout_.size) {
    return fail(fmt::format("available index {} is {} ahead of {} in a queue of {}", available, pending,
                            next_available_, layout_.size));
  }
  const std::size_t slot = next_available_ % layout_.size;
  const std::uint16_t head =
      field(available_, kRingElements + slot * kAvailableElement).load(std::memory_order_relaxed);
  if (head >= layout_.size) return fail(fmt::format("chain head {} in a queue of {}", head, layout_.size));
  ++next_available_;

  std::optional<Chain> chain(Chain(*this, head));
  for (auto* buffers : {&chain->readable_, &chain->writable_}) {
    if (spare_.empty()) break;
    *buffers = std::move(spare_.back());
    spare_.pop_back();
  }
  if (auto walked = walk(*chain); !walked) {
    recycle(*chain);
    return fail(fmt::format("chain {}", head), walked.error());
  }
  return chain;
}

Result<void> VirtQueue::walk(Chain& chain) const {
  std::span<const std::byte> table = descriptors_;
  bool in_indirect = false;
  std::uint64_t index = chain.head_;
  std::uint64_t bytes = 0;
  // 2.7.5.3.1: no chain is longer than the queue, in an indirect table or not. The descriptor that points to
  // the table does not count: Linux fills tables to the last of the queue's size. This also ends every loop.
  for (std::uint32_t left = layout_.size; left > 0;) {
    const auto descriptor = copy_once<Descriptor>(table.data() + index * kDescriptorSize);
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      if (!layout_.indirect) return fail("indirect descriptor, though the feature was not negotiated");
      if (in_indirect) return fail("indirect table within an indirect table");
      if ((descriptor.flags & kDescriptorNext) != 0) return fail("indirect descriptor with a next one");
      if (descriptor.length == 0 || descriptor.length % kDescriptorSize != 0) {
        return fail(fmt::format("indirect table of {} bytes", descriptor.length));
      }
      const auto host = memory_->at(descriptor.address, descriptor.length);
      if (!host) {
        return fail(fmt::format("indirect table at {:#x}, {} bytes: not in guest RAM", descriptor.address,
                                descriptor.length));
      }
      table = *host;
      in_indirect = true;
      index = 0;
      continue;  // once: the table has no other
    }
    --left;
    bytes += descriptor.length;
    if (bytes > kMaxChainBytes) return fail(fmt::format("more than {} bytes", kMaxChainBytes));
    BALLOON_TRY(add(chain, descriptor));
    if ((descriptor.flags & kDescriptorNext) == 0) return {};
    index = descriptor.next;
    if (index >= table.size() / kDescriptorSize) {
      return fail(fmt::format("next descriptor {} in a table of {}", index, table.size() / kDescriptorSize));
    }
  }
  return fail(fmt::format("longer than the queue of {}, or a loop", layout_.size));
}

Result<void> VirtQueue::add(Chain& chain, const Descriptor& descriptor) const {
  const bool writable = (descriptor.flags & kDescriptorWrite) != 0;
  if (!writable && !chain.writable_.empty())
    return fail("device-readable buffer after a device-writable one");
  if (descriptor.length == 0) return {};  // seen from real drivers; it holds nothing
  const auto host = memory_->at(descriptor.address, descriptor.length);
  if (!host) {
    return fail(
        fmt::format("buffer at {:#x}, {} bytes: not in guest RAM", descriptor.address, descriptor.length));
  }
  (writable ? chain.writable_ : chain.readable_).push_back({descriptor.address, *host});
  return {};
}

void VirtQueue::put(Chain chain, std::uint32_t written) {
  put_head(chain.head_, written);
  recycle(chain);
}

void VirtQueue::recycle(Chain& chain) {
  chain.queue_ = nullptr;
  for (auto* buffers : {&chain.readable_, &chain.writable_}) {
    buffers->clear();
    if (buffers->capacity() > 0) spare_.push_back(std::move(*buffers));
  }
}

void VirtQueue::put_all(std::span<Chain> chains, std::span<const std::uint32_t> written) {
  for (std::size_t i = 0; i < chains.size(); ++i) {
    fill_used(chains[i].head_, written[i]);
    recycle(chains[i]);
  }
  publish_used();
}

void VirtQueue::put_head(std::uint16_t head, std::uint32_t written) {
  fill_used(head, written);
  publish_used();
}

void VirtQueue::fill_used(std::uint16_t head, std::uint32_t written) {
  const std::uint32_t element[2] = {head, written};
  const std::size_t slot = next_used_ % layout_.size;
  std::memcpy(used_.data() + kRingElements + slot * kUsedElement, element, sizeof element);
  ++next_used_;
}

void VirtQueue::publish_used() {
  // Release: the driver that sees the index sees the element, and what the device wrote to the buffers.
  field(used_, kRingIndex).store(next_used_, std::memory_order_release);
}

bool VirtQueue::should_interrupt() {
  const std::uint16_t before = std::exchange(signalled_used_, next_used_);
  if (before == next_used_) return false;
  // 2.7.7.2: a full barrier between moving the used index and reading what the driver wants to be told.
  // Storing the index once more, sequentially consistent, is that barrier; unlike a fence it is also known to
  // ThreadSanitizer.
  field(used_, kRingIndex).store(next_used_, std::memory_order_seq_cst);
  if (!layout_.event_idx) {
    return (field(available_, kRingFlags).load(std::memory_order_seq_cst) & kAvailableNoInterrupt) == 0;
  }
  const std::uint16_t used_event =
      field(available_, kRingElements + layout_.size * kAvailableElement).load(std::memory_order_seq_cst);
  return static_cast<std::uint16_t>(next_used_ - used_event - 1) <
         static_cast<std::uint16_t>(next_used_ - before);
}

bool VirtQueue::enable_kicks() {
  // Full barrier, as above, between this store and the look at the available index: else a kick could be
  // missed.
  if (layout_.event_idx) {
    field(used_, kRingElements + layout_.size * kUsedElement)
        .store(next_available_, std::memory_order_seq_cst);
  } else {
    field(used_, kRingFlags).store(0, std::memory_order_seq_cst);
  }
  return field(available_, kRingIndex).load(std::memory_order_seq_cst) != next_available_;
}

void VirtQueue::disable_kicks() {
  // With EVENT_IDX an avail_event that is left behind already keeps the driver from kicking.
  if (!layout_.event_idx) field(used_, kRingFlags).store(kUsedNoNotify, std::memory_order_relaxed);
}

}  // namespace balloon::vmm
