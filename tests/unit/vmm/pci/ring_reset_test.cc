// SPDX-License-Identifier: Apache-2.0
// RING_RESET (virtio 1.2, 2.6.1, 4.1.4.3): single queues taken back and given again while the device runs.
#include <gtest/gtest.h>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/pci/device_guest.h"

namespace balloon::vmm::test {
namespace {

class RingResetTest : public testing::Test {
 protected:
  RingResetTest() {
    auto made = std::make_unique<FakeDevice>();
    device = made.get();
    guest.emplace(std::move(made), memory, *loop);
    guest->negotiate();
    guest->use_messages();
    guest->start();
    EXPECT_TRUE(eventually([&] { return kicks(0) > 0 && kicks(1) > 0; }));  // the looks that follow DRIVER_OK
  }
  int kicks(std::uint16_t queue) {
    const std::lock_guard lock(device->mutex());
    return device->kicks[queue];
  }

  GuestMemory memory = make_memory();
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::optional<DeviceGuest> guest;
  FakeDevice* device = nullptr;
};

TEST_F(RingResetTest, IsOffered) { EXPECT_NE(guest->offered() & kFeatureRingReset, 0U); }

TEST_F(RingResetTest, TheQueueGoesToItsDefaultsAndTheOtherGoesOn) {
  guest->reset_queue(1);
  EXPECT_EQ(device->queue_resets[1], 1);
  EXPECT_EQ(device->queues[1], nullptr);
  EXPECT_EQ(guest->common<std::uint16_t>(DeviceGuest::kQueueSize), 32);
  EXPECT_EQ(guest->common<std::uint16_t>(DeviceGuest::kQueueVector), virtio_pci::kNoVector);
  EXPECT_EQ(guest->common<std::uint64_t>(DeviceGuest::kQueueDesc), 0U);
  EXPECT_NE(device->queues[0], nullptr);
  EXPECT_EQ(device->resets, 0);
  const int before = kicks(0);
  guest->kick(0);
  EXPECT_TRUE(eventually([&] { return kicks(0) > before; }));
}

TEST_F(RingResetTest, KicksOfAQueueThatWasTakenBackDoNothing) {
  guest->kick(1);
  guest->reset_queue(1);
  const int before = kicks(1);
  guest->kick(1);
  catch_up(*loop);
  EXPECT_EQ(kicks(1), before);
}

TEST_F(RingResetTest, TheQueueComesAgainInAnotherShape) {
  guest->reset_queue(1);
  FakeQueue smaller(memory, 8_MiB, 16);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueSelect, 1);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueSize, 16);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueVector, 2);
  guest->set_common<std::uint64_t>(DeviceGuest::kQueueDesc, smaller.layout().descriptors);
  guest->set_common<std::uint64_t>(DeviceGuest::kQueueDriver, smaller.layout().available);
  guest->set_common<std::uint64_t>(DeviceGuest::kQueueDevice, smaller.layout().used);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueEnable, 1);
  ASSERT_NE(device->queues[1], nullptr);
  EXPECT_EQ(device->queues[1]->size(), 16);
  EXPECT_EQ(guest->common<std::uint16_t>(DeviceGuest::kQueueEnable), 1);
  const int before = guest->interrupts(1);
  guest->kick(1);
  EXPECT_TRUE(eventually([&] { return guest->interrupts(1) > before; }));
  guest->reset_queue(1);
  EXPECT_EQ(device->queue_resets[1], 2) << "it may go again";
}

TEST_F(RingResetTest, ItIsFrozenAgainOnceItIsEnabled) {  // the class of CVE-2026-5747
  guest->reset_queue(1);
  guest->set_up_queue(1);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueSize, 16);
  guest->set_common<std::uint64_t>(DeviceGuest::kQueueDesc, 0xdead000);
  EXPECT_EQ(guest->common<std::uint16_t>(DeviceGuest::kQueueSize), 32);
  EXPECT_NE(guest->common<std::uint64_t>(DeviceGuest::kQueueDesc), 0xdead000U);
}

TEST_F(RingResetTest, ComingAgainOutsideRamItAsksForAReset) {
  guest->reset_queue(1);
  guest->set_common<std::uint64_t>(DeviceGuest::kQueueDesc, 0xfffffffffffff000);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueEnable, 1);
  EXPECT_NE(guest->status() & virtio_pci::kNeedsReset, 0);
  EXPECT_EQ(device->queues[1], nullptr);
  guest->bring_up();
  EXPECT_EQ(guest->status(), DeviceGuest::kAccepted | virtio_pci::kDriverOk);
}

TEST_F(RingResetTest, WithoutTheFeatureTheFieldDoesNothing) {
  guest->bring_up(~kFeatureRingReset);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueSelect, 1);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueReset, 1);
  EXPECT_EQ(device->queue_resets[1], 0);
  EXPECT_EQ(guest->common<std::uint16_t>(DeviceGuest::kQueueEnable), 1);
}

TEST_F(RingResetTest, OddRequestsDoNothing) {
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueSelect, 7);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueReset, 1);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueSelect, 0);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueReset, 0);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueReset, 2);
  guest->set_common<std::uint8_t>(DeviceGuest::kQueueReset, 1);
  EXPECT_TRUE(device->queue_resets.empty());
  guest->reset_queue(0);
  guest->set_common<std::uint16_t>(DeviceGuest::kQueueReset, 1);
  EXPECT_EQ(device->queue_resets[0], 1) << "it is taken back already";
}

TEST_F(RingResetTest, AResetOfTheWholeDeviceFollowsAtAnyTime) {
  for (int round = 0; round < 20; ++round) {
    guest->kick(1);
    guest->reset_queue(1);
    if (round % 2 == 0) guest->set_up_queue(1);
    guest->bring_up();
  }
  EXPECT_EQ(device->calls_while_reset, 0);
}

// FEATURES_OK

TEST_F(RingResetTest, AFeatureWithoutWhatItNeedsIsRefused) {
  EXPECT_FALSE(guest->negotiate(~0x1ULL)) << "4 needs 1";
  EXPECT_EQ(guest->status() & virtio_pci::kFeaturesOk, 0);
  EXPECT_TRUE(guest->negotiate(~0x5ULL));
  EXPECT_TRUE(guest->negotiate(~0x4ULL));
}

}  // namespace
}  // namespace balloon::vmm::test
