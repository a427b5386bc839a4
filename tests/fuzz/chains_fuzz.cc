// SPDX-License-Identifier: Apache-2.0
// Chains of a virtqueue, split or packed, in guest memory that the input fills: whatever a chain says, its
// buffers lie in RAM, it ends, and it can be given back.
#include <cstring>
#include <initializer_list>

#include "tests/fuzz/fuzz.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm::fuzz {
namespace {

constexpr Bytes kMemory = 2 * kMiB;
constexpr int kMostTaken = 64;

void use(const GuestMemory& memory, const Chain& chain) {
  std::uint64_t buffers = 0;
  for (const auto part : {chain.readable(), chain.writable()}) {
    for (const ChainBuffer& buffer : part) {
      ++buffers;
      const auto there = memory.at(buffer.address, buffer.host.size());
      require(there.has_value() && there->data() == buffer.host.data(), "a buffer lies outside of RAM");
    }
  }
  require(buffers <= kMaxQueueSize, "a chain has more buffers than any queue");
  std::array<std::byte, 64> bytes{};
  (void)chain.read(chain.readable_size() / 2, bytes);
  (void)chain.write(chain.writable_size() / 2, bytes);
}

void run(Input& input) {
  static const GuestMemory memory = *GuestMemory::create(kMemory);
  const auto kind = input.take<std::uint8_t>();
  QueueLayout layout{.size = static_cast<std::uint16_t>(1U << (kind >> 4 & 7)),
                     .descriptors = 0x1000,
                     .available = 0x4000,
                     .used = 0x6000,
                     .event_idx = (kind & 2) != 0,
                     .indirect = (kind & 4) != 0,
                     .packed = (kind & 1) != 0};
  if ((kind & 8) != 0) {
    layout.size = input.take<std::uint16_t>();
    layout.descriptors = input.take<std::uint32_t>();
    layout.available = input.take<std::uint32_t>();
    layout.used = input.take<std::uint32_t>();
  }
  const auto all = memory.at(0, kMemory.count());
  std::memset(all->data(), 0, 0x10000);
  // Descriptors point to others and to themselves, so that tables can be chains of tables.
  const std::size_t descriptors = input.take<std::uint8_t>();
  for (std::size_t i = 0; i < descriptors; ++i) {
    const std::uint64_t place = (input.below(64) < 48 ? 0x1000 : 0x2000) + 16ULL * input.below(128);
    const std::uint64_t address = std::uint64_t{input.take<std::uint16_t>()} << input.below(20);
    memory.write(place, address);
    memory.write(place + 8, length(input));
    memory.write(place + 12, static_cast<std::uint16_t>(input.take<std::uint8_t>() & (kind & 1 ? 0xff : 7)));
    if ((kind & 1) != 0)
      memory.write(place + 15, input.take<std::uint8_t>());  // the packed ring's avail bits
    memory.write(place + 14, static_cast<std::uint16_t>(input.take<std::uint8_t>()));
  }
  for (std::size_t i = 0; i < 16; ++i)
    memory.write(0x4004 + 2 * i, static_cast<std::uint16_t>(input.below(160)));
  memory.write(0x4000, static_cast<std::uint16_t>(input.below(4)));
  memory.write(0x4002, static_cast<std::uint16_t>(input.below(64)));
  auto queue = VirtQueue::create(memory, layout);
  if (!queue) return;
  for (int i = 0; i < kMostTaken; ++i) {
    auto chain = queue->take();
    if (!chain || !*chain) break;
    use(memory, **chain);
    queue->put(std::move(**chain), input.take<std::uint32_t>());
    (void)queue->should_interrupt();
  }
  (void)queue->enable_kicks();
  queue->disable_kicks();
}

}  // namespace

std::vector<Bytes8> seeds() {
  std::vector<Bytes8> all;
  for (const std::uint8_t kind : std::initializer_list<std::uint8_t>{0x30, 0x31, 0x34, 0x35, 0x36, 0x38}) {
    Bytes8 seed{kind, 6};
    for (std::uint8_t i = 0; i < 6; ++i) {
      const Bytes8 one{0, 0, i, 0, 0, 16, 4, 0, 4, static_cast<std::uint8_t>(i % 2), i, 0x80, 1};
      seed.insert(seed.end(), one.begin(), one.end());
    }
    seed.resize(160);
    all.push_back(seed);
  }
  return all;
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return balloon::vmm::fuzz::run_within_limits(balloon::vmm::fuzz::run, data, size);
}
