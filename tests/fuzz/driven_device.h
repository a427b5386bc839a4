// SPDX-License-Identifier: Apache-2.0
// A driver that does what the input says to one device: chains of any shape and length on each of its queues,
// kicks, configuration, resets.
#pragma once

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::fuzz {

inline constexpr GuestAddress kPlayground = (16 * kMiB).count();

/// A chain of up to 16 buffers behind a head, all of them in the playground or wherever the input says.
inline void submit(Input& input, test::FakeQueue& queue) {
  test::ChainBuilder chain(queue);
  const unsigned buffers = 1 + input.below(16);
  std::array<std::byte, 32> head{};
  const auto bytes = input.bytes(input.below(static_cast<std::uint32_t>(head.size()) + 1));
  std::memcpy(head.data(), bytes.data(), bytes.size());
  if (!bytes.empty()) chain.readable(std::span(head).first(bytes.size()));
  for (unsigned i = 0; i < buffers; ++i) {
    const auto how = input.take<std::uint8_t>();
    const GuestAddress address = (how & 2) != 0 ? std::uint64_t{input.take<std::uint32_t>()} << (how >> 5)
                                                : kPlayground + (how & 0xfc) * 4096ULL;
    const std::uint32_t size = length(input);
    (how & 1) != 0 ? chain.writable_at(address, size) : chain.readable_at(address, size);
  }
  input.below(2) != 0 ? chain.submit_indirect() : chain.submit();
}

/// `other`: what the world around the device does now and then.
inline void drive_one_step(Input& input, VirtioDevice& device, test::FakeDriver& driver,
                           const GuestMemory& memory, const std::function<void()>& other) {
  const auto queue =
      static_cast<std::uint16_t>(input.below(static_cast<std::uint32_t>(device.queue_sizes().size())));
  const Turn turn;
  switch (input.take<std::uint8_t>() % 8) {
    case 0:
    case 1:
    case 2:
      return submit(input, driver.queue(queue));
    case 3:
    case 4:
      return driver.kick(queue);
    case 5:
      if (device.config_size() >= 4) {
        const std::uint32_t place = input.below(device.config_size() - 3);
        driver.write_config<std::uint32_t>(place, input.take<std::uint32_t>());
        (void)driver.read_config<std::uint32_t>(place);
      }
      return;
    case 6:
      memory.write(kPlayground + input.take<std::uint16_t>(), input.take<std::uint64_t>());
      return;
    default:
      if (input.below(4) == 0) {
        driver.reset();
        driver.start();
      } else if (input.below(2) == 0) {
        driver.reset_queue(queue);
        driver.restart_queue(queue);
      } else {
        other();
      }
  }
}

/// Whether a thread of this process, but for this one, has something to do: runs, or waits for a processor.
inline bool others_run() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(::gettid())) continue;
    std::ifstream file(task.path() / "stat");
    std::string stat;
    if (!std::getline(file, stat)) continue;  // a thread that has just ended
    if (const std::size_t name_end = stat.rfind(") ");
        name_end != std::string::npos && stat[name_end + 2] == 'R')
      return true;
  }
  return false;
}

/// Until the device's loop has worked off what it was told, as far as it does in half a second: what a turn
/// leaves for the next one, and what is kept for it, counts as well.
inline void settle() {
  constexpr std::chrono::milliseconds kMost{500};
  const auto end = used(CLOCK_PROCESS_CPUTIME_ID) + kMost;
  for (int idle = 0; idle < 2 && used(CLOCK_PROCESS_CPUTIME_ID) < end; idle = others_run() ? 0 : idle + 1)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

inline void drive(Input& input, VirtioDevice& device, const GuestMemory& memory,
                  const std::function<void()>& other) {
  constexpr std::size_t kMostSteps = 200;
  test::FakeDriver driver(device, memory);
  driver.start(input.take<std::uint64_t>() | kFeatureIndirectDesc);
  try {
    for (std::size_t step = 0; step < kMostSteps && !input.empty(); ++step)
      drive_one_step(input, device, driver, memory, other);
  } catch (const std::runtime_error&) {
    return;  // the driver's own arena is full
  }
  for (std::uint16_t i = 0; i < device.queue_sizes().size(); ++i) driver.kick(i);
  settle();
  const Turn end;
  driver.reset();
}

/// Which of the lengths (length()) a seed's buffers have.
inline constexpr std::uint8_t kPageLong = 5, kEightMiBLong = 8;

/// Steps of a driver that begins well: on each of the first two queues chains of a head of 16 bytes and three
/// buffers, and kicks; the start of what a mutation makes of it.
inline Bytes8 driven_seed(Bytes8 seed, std::uint8_t size) {
  seed.insert(seed.end(), 8, 0xff);  // all features
  for (std::uint8_t i = 0; i < 24; ++i) {
    const auto queue = static_cast<std::uint8_t>(i % 2);
    const Bytes8 chain{queue, 0, 0, 2, 0, 16, 0, i, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const Bytes8 buffers{0x10, size, 0x21, size, 0x31, 1, static_cast<std::uint8_t>(i / 2 % 2), 0};
    const Bytes8 kick{queue, 0, 3};
    for (const Bytes8& part : {chain, buffers, kick}) seed.insert(seed.end(), part.begin(), part.end());
  }
  return seed;
}

/// A driver that begins with the longest chains: on each of the first two queues one of a head (of a disk: a
/// read, or a write of what is readable), fifteen buffers of 16 MiB that are all the same, and a byte for the
/// device's answer; and a kick.
inline Bytes8 greedy_seed(Bytes8 seed, bool writable, std::uint8_t lowest_features) {
  constexpr std::uint8_t kLengthFollows = 32;
  seed.push_back(lowest_features);
  seed.insert(seed.end(), 7, 0xff);
  for (std::uint8_t queue = 0; queue < 2; ++queue) {
    Bytes8 chain{queue, 0, 0, 15, 0, 16, 0, static_cast<std::uint8_t>(writable ? 0 : 1)};
    chain.insert(chain.end(), 15, 0);
    for (int i = 0; i < 15; ++i) {
      const Bytes8 buffer{static_cast<std::uint8_t>(writable ? 1 : 0), kLengthFollows, 0, 0, 0, 1};
      chain.insert(chain.end(), buffer.begin(), buffer.end());
    }
    const Bytes8 rest{1, 1, 0, 0, queue, 0, 3};
    for (const Bytes8& part : {chain, rest}) seed.insert(seed.end(), part.begin(), part.end());
  }
  return seed;
}

}  // namespace balloon::vmm::fuzz
