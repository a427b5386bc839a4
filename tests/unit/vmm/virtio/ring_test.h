// SPDX-License-Identifier: Apache-2.0
// What the tests of split and packed rings share: a queue with its driver, and checks that hold for any ring.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/fake_packed_queue.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm::test {

inline std::vector<std::byte> bytes(std::string_view text) {
  const auto raw = std::as_bytes(std::span(text));
  return {raw.begin(), raw.end()};
}

/// One buffer of 8 bytes for the device to write.
inline void submit_buffer(FakeQueue& driver) { ChainBuilder(driver).writable(8).submit(); }
inline void submit_buffer(FakePackedQueue& driver) { driver.submit({{driver.allocate(8), 8, 0, kWrite}}, 0); }
inline void forbid_interrupts(FakeQueue& driver) { driver.set_available_flags(1); }
inline void forbid_interrupts(FakePackedQueue& driver) { driver.set_driver_event(1); }

/// `Driver`: FakeQueue or FakePackedQueue.
template <typename Driver>
class RingTest : public ::testing::Test {
 protected:
  static constexpr GuestAddress kBase = 1_MiB;
  static constexpr std::uint16_t kSize = 8;

  /// A new queue on zeroed rings, and its driver.
  VirtQueue make(bool event_idx = false, bool indirect = true, std::uint16_t size = kSize) {
    const auto rings = memory_.at(kBase, Driver::kRings);
    std::memset(rings->data(), 0, rings->size());
    driver_.emplace(memory_, kBase, size, event_idx, indirect);
    auto queue = VirtQueue::create(memory_, driver_->layout());
    if (!queue) throw std::runtime_error(queue.error().message);
    return std::move(*queue);
  }
  Driver& driver() { return *driver_; }

  /// Why the queue refuses what the driver made available; empty when it does not.
  static std::string refusal(VirtQueue& queue) {
    const auto taken = queue.take();
    return taken ? "" : taken.error().message;
  }
  /// Takes a chain and gives it back at once; whether there was one.
  static bool bounce(VirtQueue& queue, std::uint32_t written = 0) {
    auto chain = queue.take();
    if (!chain || !*chain) return false;
    queue.put(std::move(**chain), written);
    return true;
  }

  void expect_an_empty_queue_gives_nothing() {
    VirtQueue queue = make();
    const auto taken = queue.take();
    ASSERT_TRUE(taken);
    EXPECT_FALSE(*taken);
  }
  void expect_each_batch_interrupts_unless_forbidden() {
    VirtQueue queue = make(/*event_idx=*/false);
    EXPECT_FALSE(queue.should_interrupt()) << "nothing was put";
    submit_buffer(driver());
    ASSERT_TRUE(bounce(queue));
    EXPECT_TRUE(queue.should_interrupt());
    EXPECT_FALSE(queue.should_interrupt()) << "nothing new";
    forbid_interrupts(driver());
    submit_buffer(driver());
    ASSERT_TRUE(bounce(queue));
    EXPECT_FALSE(queue.should_interrupt());
  }
  void expect_enabling_kicks_tells_of_a_chain_that_came_meanwhile() {
    for (const bool event_idx : {false, true}) {
      VirtQueue queue = make(event_idx);
      queue.disable_kicks();
      submit_buffer(driver());
      EXPECT_TRUE(queue.enable_kicks());
    }
  }
  /// A driver that makes chains available again and again, though nothing was returned, is refused.
  static void expect_no_more_than_the_queue_holds(VirtQueue& queue, const std::function<void()>& submit) {
    std::vector<Chain> out;
    std::string why;
    for (int i = 0; i < 3 * kSize && why.empty(); ++i) {
      submit();
      auto chain = queue.take();
      if (!chain) {
        why = chain.error().message;
      } else if (*chain) {
        out.push_back(std::move(**chain));
      }
    }
    EXPECT_NE(why.find("all 8 descriptors"), std::string::npos) << why;
    EXPECT_EQ(out.size(), kSize);
  }

  /// An address that lies in the rings, at the end of RAM or of all memory, or is good.
  template <typename Any>
  GuestAddress any_address(std::uint16_t index, const Any& any) const {
    const GuestAddress near[] = {kBase, kBase + index * 16U, memory_.size().count() - any(64),
                                 ~0ULL - any(64), 0x5000};
    return near[any(5)];
  }
  /// Takes, reads and writes what there is, whatever it is: no buffer may leave RAM.
  template <typename Any>
  void use_all(VirtQueue& queue, const Any& any) {
    for (int taken = 0; taken <= 2 * kSize; ++taken) {
      auto chain = queue.take();
      if (!chain || !*chain) break;
      for (const ChainBuffer& buffer : (*chain)->writable()) {
        ASSERT_LE(buffer.address + buffer.host.size(), memory_.size().count());
      }
      std::vector<std::byte> into(64);
      (*chain)->read(any(512), into);
      (*chain)->write(any(512), into);  // it may hit the ring itself
    }
    queue.should_interrupt();
    queue.enable_kicks();
  }

  /// With the device on a thread of its own, that returns each chain with its number as the length:
  /// `submit(number)` makes one available, at most `ahead` before they came back; `check` sees each.
  template <typename Submit, typename Check>
  void pass_chains_between_threads(VirtQueue& queue, std::uint32_t ahead, const Submit& submit,
                                   const Check& check) {
    constexpr std::uint32_t kChains = 20'000;
    std::atomic<bool> failed = false;
    std::jthread device([&](const std::stop_token& stop) {
      for (std::uint32_t done = 0; done < kChains && !stop.stop_requested();) {
        auto chain = queue.take();
        if (!chain) {
          failed = true;
          return;
        }
        if (!*chain) {
          std::this_thread::yield();
          continue;
        }
        queue.put(std::move(**chain), done++);
      }
    });
    std::uint32_t sent = 0;
    for (std::uint32_t received = 0; received < kChains && !failed;) {
      while (sent < kChains && sent - received < ahead) submit(sent++);
      const auto used = driver().pop_used();
      if (!used) {
        std::this_thread::yield();
        continue;
      }
      ASSERT_EQ(used->length, received);
      check(*used, received++);
    }
    EXPECT_FALSE(failed);
  }

  GuestMemory memory_ = make_memory();
  std::optional<Driver> driver_;
};

}  // namespace balloon::vmm::test
