// SPDX-License-Identifier: Apache-2.0
// A balloon behind its transport, saved and loaded into a fresh one while the guest's memory stays.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <optional>

#include "tests/unit/vmm/devices/balloon/balloon_fixture.h"
#include "tests/unit/vmm/pci/device_guest.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::test {
namespace {

class BalloonSnapshotTest : public ::testing::Test {
 protected:
  Balloon& make(std::optional<DeviceGuest>& guest) {
    auto balloon = Balloon::create({}, memory_, *loop_);
    if (!balloon) throw std::runtime_error(balloon.error().message);
    Balloon& made = **balloon;
    guest.emplace(std::move(*balloon), memory_, *loop_);
    return made;
  }

  GuestMemory memory_ = make_memory();
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test");
  std::optional<DeviceGuest> first_;
  std::optional<DeviceGuest> second_;
};

TEST_F(BalloonSnapshotTest, StatisticsGoOnThoughTheirBufferWasHeld) {  // Firecracker #2590: dead for ever
  make(first_);
  first_->bring_up();
  FakeQueue& queue = first_->queue(kStats);
  const auto send_free = [&](DeviceGuest& guest, std::uint64_t bytes) {
    std::vector<std::byte> entry(10);
    entry[0] = std::byte{4};
    std::memcpy(entry.data() + 2, &bytes, sizeof bytes);
    ChainBuilder(queue).readable(entry).submit();
    guest.kick(kStats);
  };
  send_free(*first_, 1);
  StateWriter writer;
  // Taken by now: the kick's turn on the loop is over before a second kick's buffer comes back.
  send_free(*first_, 2);
  ASSERT_TRUE(eventually([&] { return queue.pop_used().has_value(); })) << "the second is returned at once";
  ASSERT_TRUE(first_->transport().save(writer));

  Balloon& balloon = make(second_);
  StateReader reader(writer.bytes());
  const auto loaded = second_->transport().load(reader);
  ASSERT_TRUE(loaded) << loaded.error().message;
  std::atomic<std::uint64_t> free = 0;
  balloon.request_stats([&](const Result<BalloonStats>& stats) {
    if (stats) free = stats->values[static_cast<std::size_t>(StatTag::free_memory)].value_or(0);
  });
  ASSERT_TRUE(eventually([&] { return queue.pop_used().has_value(); })) << "it was the device's to return";
  send_free(*second_, 12345);
  EXPECT_TRUE(eventually([&] { return free == 12345; })) << free;
}

}  // namespace
}  // namespace balloon::vmm::test
