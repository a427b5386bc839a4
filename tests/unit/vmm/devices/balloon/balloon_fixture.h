// SPDX-License-Identifier: Apache-2.0
// A balloon with a fake driver and an observer, on guest memory of any kind.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/devices/balloon/balloon.h"

namespace balloon::vmm::test {

inline constexpr std::uint16_t kInflate = 0;
inline constexpr std::uint16_t kDeflate = 1;
inline constexpr std::uint16_t kStats = 2;
inline constexpr std::uint16_t kReporting = 3;

inline constexpr std::uint32_t kNumPages = 0;  // offsets in the config space
inline constexpr std::uint32_t kActual = 4;
inline constexpr std::uint32_t kFreePageHint = 8;
inline constexpr std::uint32_t kPoison = 12;

/// Guest memory that no ring or buffer of the driver uses, for pages to inflate.
inline constexpr GuestAddress kVictims = 16_MiB;
inline constexpr std::uint32_t kVictim = kVictims / kPageSize;

/// Features of a driver whose pages are gathered into huge pages, and of one whose pages are released at
/// once.
inline constexpr std::uint64_t kGather = ~0ULL;
inline constexpr std::uint64_t kAtOnce = ~Balloon::kFeatureMustTellHost;

class BalloonTest : public ::testing::Test {
 protected:
  explicit BalloonTest(GuestMemory memory = make_memory()) : memory_(std::move(memory)) {}
  void make(const BalloonConfig& config = {}) {
    auto balloon = Balloon::create(config, memory_, *loop_);
    if (!balloon) throw std::runtime_error(balloon.error().message);
    balloon_ = std::move(*balloon);
    balloon_->observe(
        [this](const BalloonStats& stats) {
          const std::lock_guard lock(mutex_);
          samples_.push_back(stats);
        },
        [this](const BalloonState& state) {
          const std::lock_guard lock(mutex_);
          states_.push_back(state);
        });
    driver_.emplace(*balloon_, memory_);
  }
  void start(const BalloonConfig& config = {}, std::uint64_t features = kAtOnce) {
    make(config);
    driver_->start(features);
  }
  ~BalloonTest() override {
    driver_.reset();
    balloon_.reset();
  }

  /// Fills `count` pages from page `pfn` on with a pattern, as a guest that uses them.
  void touch(std::uint32_t pfn, std::size_t count) {
    const auto host = memory_.at(pfn * kPageSize, count * kPageSize);
    std::memset(host->data(), 0xa5, host->size());
  }
  bool is_zero(std::uint32_t pfn) {
    const auto host = memory_.at(pfn * kPageSize, kPageSize);
    return std::ranges::all_of(*host, [](std::byte byte) { return byte == std::byte{0}; });
  }
  bool is_patterned(std::uint32_t pfn) {
    const auto host = memory_.at(pfn * kPageSize, kPageSize);
    return std::ranges::all_of(*host, [](std::byte byte) { return byte == std::byte{0xa5}; });
  }
  std::size_t resident(std::uint32_t pfn, std::size_t count) { return resident_pages(memory_, pfn, count); }

  /// Time passes while a test waits.
  bool eventually(const std::function<bool()>& condition) {
    return test::eventually([&] {
      clock_.advance(std::chrono::milliseconds(1));
      return condition();
    });
  }
  /// What was asked for is done, then so much time passes, and what that brings about is done.
  void pass(std::chrono::nanoseconds time) {
    catch_up(*loop_);
    clock_.advance(time);
    catch_up(*loop_);
  }

  /// What `ask` wants of the device is left to the loop, which stands still until loop_->resume().
  void while_busy(const std::function<void()>& ask) {
    loop_->pause();
    balloon_->mutex().lock();
    std::thread(ask).join();
    balloon_->mutex().unlock();
  }

  FakeQueue& queue(std::uint16_t index) { return driver_->queue(index); }
  std::optional<std::uint32_t> send(std::uint16_t index, const std::vector<std::uint32_t>& pfns) {
    ChainBuilder(queue(index)).readable_values(pfns).submit();
    const auto used = driver_->kick_and_wait(index);
    return used ? std::optional(used->length) : std::nullopt;
  }

  /// A statistics buffer with one value of free memory.
  std::uint16_t send_stats(std::uint64_t free_memory) {
    std::vector<std::byte> entry(10);
    entry[0] = std::byte{4};
    std::memcpy(entry.data() + 2, &free_memory, sizeof free_memory);
    const std::uint16_t head = ChainBuilder(queue(kStats)).readable(entry).submit();
    driver_->kick(kStats);
    return head;
  }
  std::optional<UsedElement> wait_stats_request() {
    std::optional<UsedElement> used;
    eventually([&] { return (used = queue(kStats).pop_used()).has_value(); });
    return used;
  }
  /// Waits until what was asked of the device before is carried out: a read of its configuration comes after
  /// it.
  void settle() { (void)driver_->read_config<std::uint32_t>(0); }
  std::vector<BalloonStats> samples() {
    const std::lock_guard lock(mutex_);
    return samples_;
  }
  std::vector<BalloonState> states() {
    const std::lock_guard lock(mutex_);
    return states_;
  }

  GuestMemory memory_;
  ManualClock clock_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test", clock_);
  std::unique_ptr<Balloon> balloon_;
  std::optional<FakeDriver> driver_;
  std::mutex mutex_;
  std::vector<BalloonStats> samples_;
  std::vector<BalloonState> states_;
};

}  // namespace balloon::vmm::test
