// A driver that does what the input says to one device: chains of any shape and length on each of its queues,
// kicks, configuration, resets.
#pragma once

#include <cstring>
#include <functional>
#include <stdexcept>
#include <thread>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::fuzz {

inline constexpr GuestAddress kPlayground = 16 * kMiB;

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
  std::this_thread::yield();
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

}  // namespace balloon::vmm::fuzz
