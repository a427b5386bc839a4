// A guest that asks one device for as much as the rules allow, 32 times at once, and then sees how long
// another device on the same loop lets it wait. Its command line names the device: "console".
#include "entry.h"
#include "virtio.h"

namespace bare {
namespace {

constexpr unsigned kRequests = 32;
constexpr uint64_t kIndirect = 1ULL << 28;
// Memory that requests point to, as often as they like.
constexpr uint32_t kPlayground = 0x1000000;
constexpr uint32_t kPlaygroundSize = 40U << 20;
constexpr Mode kMode{};

uint8_t random_bytes[16];

struct [[gnu::packed]] TableEntry {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
TableEntry table[256];

unsigned find(unsigned id) {
  for (unsigned slot = 1; slot < 32; ++slot) {
    if (Device::id(slot, kMode) == id) return slot;
  }
  fail("a device is missing");
}

/// Makes the table one chain of `count` buffers, each of them all of the playground.
Buffer whole_table(unsigned count, bool writable) {
  for (unsigned i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    table[i] = {kPlayground, kPlaygroundSize, static_cast<uint16_t>((writable ? 2 : 0) | (last ? 0 : 1)),
                static_cast<uint16_t>(last ? 0 : i + 1)};
  }
  return {table, static_cast<uint32_t>(count * sizeof(TableEntry)), false, true};
}

void ask(Device& device, uint16_t queue, const Buffer* buffers, unsigned count) {
  for (unsigned i = 0; i < kRequests; ++i) device.queue(queue).submit(buffers, count);
  device.kick(queue);
}

/// 32 chains of 2.5 GiB for the console to transmit.
void ask_console(Device& device) {
  device.start(find(3), kMode, kIndirect, 2);
  const Buffer chain = whole_table(64, false);
  ask(device, 1, &chain, 1);
}

}  // namespace

void start(const char* command_line) {
  set_up_interrupts();
  for (uint32_t offset = 0; offset < kPlaygroundSize; offset += 4096)
    at<uint32_t>(kPlayground + offset) = offset;
  static Device rng;
  rng.start(find(4), kMode, 0, 1);
  print("ready\n");
  read_key();

  static Device greedy;
  if (contains(command_line, "console")) ask_console(greedy);
  print("asked\n");
  // The slowest answer of 20, in 2^20 ticks of the processor's clock.
  uint64_t slowest = 0;
  const Buffer bytes{random_bytes, sizeof(random_bytes), true};
  for (unsigned i = 0; i < 20; ++i) {
    const uint64_t from = clock_ticks();
    rng.request(0, &bytes, 1);
    const uint64_t took = clock_ticks() - from;
    if (took > slowest) slowest = took;
  }
  print("slowest ");
  print(static_cast<uint32_t>(slowest >> 20));
  print("\n");
  for (;;) asm volatile("sti; hlt");
}

}  // namespace bare
