// SPDX-License-Identifier: Apache-2.0
// A guest that asks one device for as much as the rules allow, 32 times at once, and then sees how long
// another device lets it wait: one on the main loop, and the greedy one's own configuration. Its command line
// names what it asks: "console", "inflate", "deflate", "report", "entropy", "read", "write", "zero",
// "discard", "frames".
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

// Page numbers lie in the playground, and name pages from here on (of a guest of 1 GiB).
constexpr uint32_t kGiven = 128U << 20;
constexpr uint32_t kEnd = 1U << 30;
/// Those that are in use before, which takes the host its time, end here.
constexpr uint32_t kUsedEnd = kGiven + (320U << 20);

/// 32 times the same list, of every `stride`th page below `end`, for queue `index` of the balloon.
void send_pages(Device& device, uint16_t index, uint32_t stride, uint32_t end) {
  uint32_t count = 0;
  for (uint32_t page = kGiven / 4096; page < end / 4096; page += stride)
    at<uint32_t>(kPlayground + 4 * count++) = page;
  const Buffer list{reinterpret_cast<void*>(kPlayground), 4 * count, false};
  ask(device, index, &list, 1);
}

/// Every second page: none of them has a neighbour to be released with.
void ask_inflate(Device& device) {
  device.start(find(5), kMode, 0, 2);
  send_pages(device, 0, 2, kEnd);
}

/// One page of each huge page, which is then whole again; after it was given away.
void ask_deflate(Device& device) {
  device.start(find(5), kMode, 0, 2);
  send_pages(device, 0, 512, kUsedEnd);
  send_pages(device, 1, 512, kUsedEnd);
}

/// 32 reports of 3.5 GiB, all of them of the same memory.
void ask_report(Device& device) {
  device.start(find(5), kMode, kIndirect | 1U << 5, 4);
  for (unsigned i = 0; i < 4; ++i)
    table[i] = {kGiven, kEnd - kGiven, static_cast<uint16_t>(i == 3 ? 2 : 3), static_cast<uint16_t>(i + 1)};
  const Buffer chain{table, 4 * sizeof(TableEntry), false, true};
  ask(device, 3, &chain, 1);
}

/// 32 chains of 2.5 GiB to fill with random bytes.
void ask_entropy(Device& device) {
  device.start(find(4), kMode, kIndirect, 1);
  const Buffer chain = whole_table(64, true);
  ask(device, 0, &chain, 1);
}

struct [[gnu::packed]] BlockHeader {
  uint32_t type, reserved;
  uint64_t sector;
} block_header;
struct [[gnu::packed]] BlockSegment {
  uint64_t sector;
  uint32_t sectors, flags;
} segments[16];
uint8_t block_status;

/// 32 transfers, each as large as the disk says that one may be, all from or to its start.
void ask_transfer(Device& device, bool read) {
  device.start(find(2), kMode, kIndirect | 1U << 1 | 1U << 2 | 1U << 9, 1);
  const uint32_t size = device.read_config<uint32_t>(8), count = device.read_config<uint32_t>(12);
  expect(count == 254, "seg_max");
  block_header = {read ? 0U : 1U, 0, 0};
  table[0] = {reinterpret_cast<uint32_t>(&block_header), sizeof(block_header), 1, 1};
  for (unsigned i = 1; i <= count; ++i)
    table[i] = {kPlayground, size, static_cast<uint16_t>(read ? 3 : 1), static_cast<uint16_t>(i + 1)};
  table[count + 1] = {reinterpret_cast<uint32_t>(&block_status), 1, 2, 0};
  const Buffer chain{table, static_cast<uint32_t>((count + 2) * sizeof(TableEntry)), false, true};
  ask(device, 0, &chain, 1);
}

/// 32 requests to zero or discard as much as one may, all of it at the disk's start.
void ask_clear(Device& device, bool zero) {
  device.start(find(2), kMode, kIndirect | 1U << 13 | 1U << 14, 1);
  const uint32_t sectors = device.read_config<uint32_t>(0);  // of a disk of less than 2 TiB
  const uint32_t most = device.read_config<uint32_t>(zero ? 48 : 36);
  for (BlockSegment& segment : segments) segment = {0, most < sectors ? most : sectors, 0};
  block_header = {zero ? 13U : 11U, 0, 0};
  const Buffer chain[] = {{&block_header, sizeof(block_header), false},
                          {segments, sizeof(segments), false},
                          {&block_status, 1, true}};
  ask(device, 0, chain, 3);
}

/// 32 frames of 64 KiB to send, again and again; and as many receive buffers as there is room for, too small
/// for any frame.
void ask_frames(Device& device) {
  device.start(find(1), kMode, kIndirect, 2);
  const Buffer small{random_bytes, sizeof(random_bytes), true};
  for (unsigned i = 0; i < device.queue(0).size; ++i) device.queue(0).submit(&small, 1);
  device.kick(0);
  const Buffer frame{reinterpret_cast<void*>(kPlayground), 65536, false};
  for (unsigned i = 0; i < 4; ++i) ask(device, 1, &frame, 1);
}

}  // namespace

void start(const char* command_line) {
  set_up_interrupts();
  for (uint32_t offset = 0; offset < kPlaygroundSize; offset += 4096)
    at<uint32_t>(kPlayground + offset) = offset;
  if (contains(command_line, "deflate")) {  // huge pages of which all but what is given away is in use
    for (uint32_t place = kGiven; place < kUsedEnd; place += 1U << 21) at<uint32_t>(place + 4096) = place;
  }
  // The device that is asked for little: the random numbers, or the console where they are what is greedy.
  static Device modest;
  const bool entropy = contains(command_line, "entropy");
  modest.start(find(entropy ? 3 : 4), kMode, 0, entropy ? 2 : 1);
  print("ready\n");
  read_key();

  static Device greedy;
  if (contains(command_line, "console")) ask_console(greedy);
  if (contains(command_line, "inflate")) ask_inflate(greedy);
  if (contains(command_line, "deflate")) ask_deflate(greedy);
  if (contains(command_line, "report")) ask_report(greedy);
  if (entropy) ask_entropy(greedy);
  if (contains(command_line, "read")) ask_transfer(greedy, true);
  if (contains(command_line, "write")) ask_transfer(greedy, false);
  if (contains(command_line, "zero")) ask_clear(greedy, true);
  if (contains(command_line, "discard")) ask_clear(greedy, false);
  if (contains(command_line, "frames")) ask_frames(greedy);
  print("asked\n");
  // The slowest answer of 20, in 2^20 ticks of the processor's clock.
  uint64_t slowest = 0;
  const Buffer bytes{random_bytes, sizeof(random_bytes), !entropy};
  for (unsigned i = 0; i < 20; ++i) {
    const uint64_t from = clock_ticks();
    modest.request(entropy ? 1 : 0, &bytes, 1);
    if (!entropy) greedy.read_config<uint32_t>(0);
    const uint64_t took = clock_ticks() - from;
    if (took > slowest) slowest = took;
  }
  print("slowest ");
  print(static_cast<uint32_t>(slowest >> 20));
  print("\n");
  for (;;) asm volatile("sti; hlt");
}

}  // namespace bare
