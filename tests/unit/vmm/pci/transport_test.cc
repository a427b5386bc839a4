// SPDX-License-Identifier: Apache-2.0
// What every transport owes a driver and the device behind it, through the registers of each.
#include "vmm/virtio/transport.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/pci/pci_guest.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/fake_packed_queue.h"
#include "tests/unit/vmm/virtio/mmio_guest.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_transport;

class TransportTest : public testing::TestWithParam<VirtioInterface> {
 protected:
  explicit TransportTest(bool packed = false) {
    const TransportConfig config{.interface = GetParam(), .packed_rings = packed};
    if (GetParam() == VirtioInterface::mmio) {
      guest = std::make_unique<MmioGuest>(memory, *loop, config);
    } else {
      guest = std::make_unique<PciGuest>(memory, *loop, config);
    }
    device = guest->device;
  }
  void start() { guest->set_status(TransportGuest::kRuns); }
  /// All the way to DRIVER_OK.
  void bring_up() {
    guest->negotiate();
    guest->set_up_queue(0, queue0.layout());
    guest->set_up_queue(1, queue1.layout());
    start();
  }
  /// Until the looks that follow DRIVER_OK are over, and their interrupts acknowledged.
  void bring_up_quietly() {
    bring_up();
    ASSERT_TRUE(eventually([&] { return guest->kicks(0) > 0 && guest->kicks(1) > 0; }));
    guest->acknowledge();
    ASSERT_FALSE(guest->interrupted());
  }
  /// A kick that should not come through would have done so.
  void pause() { catch_up(*loop); }

  GuestMemory memory = make_memory();
  FakeQueue queue0{memory, 1_MiB, 64};
  FakeQueue queue1{memory, 2_MiB, 32};
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<TransportGuest> guest;
  FakeDevice* device = nullptr;
};

const auto kInterfaces = testing::Values(VirtioInterface::modern, VirtioInterface::mmio);
std::string name_of(const testing::TestParamInfo<VirtioInterface>& info) {
  return info.param == VirtioInterface::mmio ? "Mmio" : "Pci";
}
INSTANTIATE_TEST_SUITE_P(Over, TransportTest, kInterfaces, name_of);

// Features and status

TEST_P(TransportTest, ItOffersTheDevicesFeaturesAndVersion1) {
  EXPECT_EQ(guest->offered(), FakeDevice::kFeatures | kFeatureVersion1 | kFeatureRingReset);
  guest->set(guest->map.device_feature_select, 2);
  EXPECT_EQ(guest->get(guest->map.device_feature), 0U) << "words past the second are reserved";
}

TEST_P(TransportTest, FeaturesThatWereNotOfferedAreRefused) {
  guest->set_status(TransportGuest::kBegun);
  guest->accept(guest->offered() | 0x2);
  guest->set_status(TransportGuest::kReadyToRun);
  EXPECT_EQ(guest->status(), TransportGuest::kBegun);
}

TEST_P(TransportTest, ALegacyDriverIsRefused) {
  guest->negotiate(~kFeatureVersion1);
  EXPECT_EQ(guest->status() & kFeaturesOk, 0);
}

TEST_P(TransportTest, FeaturesAreFrozenOnceAccepted) {
  guest->negotiate();
  const std::uint64_t accepted = guest->offered();
  guest->accept(0);
  start();
  EXPECT_EQ(device->features, accepted);
}

TEST_P(TransportTest, FeatureWordsPastTheSecondTakeNoWrites) {
  guest->set_status(TransportGuest::kBegun);
  const std::uint64_t all = guest->offered();
  guest->accept(all);
  guest->set(guest->map.driver_feature_select, 2);
  guest->set(guest->map.driver_feature, 0);
  guest->set_status(TransportGuest::kReadyToRun);
  start();
  EXPECT_EQ(device->features, all);
}

TEST_P(TransportTest, ADriverThatGaveUpSaysSo) {
  guest->set_status(TransportGuest::kBegun | kFailed);
  EXPECT_EQ(guest->status(), TransportGuest::kBegun | kFailed);
}

TEST_P(TransportTest, DriverOkWithoutFeaturesOkDoesNothing) {
  guest->set_status(TransportGuest::kBegun | kDriverOk);
  EXPECT_EQ(device->activations, 0);
  EXPECT_EQ(guest->status() & kDriverOk, 0);
}

TEST_P(TransportTest, DriverOkTwiceActivatesOnce) {
  bring_up();
  start();
  EXPECT_EQ(device->activations, 1);
}

TEST_P(TransportTest, TheDriverCannotSetNeedsResetOrClearBits) {
  guest->negotiate();
  guest->set_status(kNeedsReset | TransportGuest::kReadyToRun);
  EXPECT_EQ(guest->status(), TransportGuest::kReadyToRun);
  guest->set_status(kAcknowledge);
  EXPECT_EQ(guest->status(), TransportGuest::kReadyToRun);
}

// Queues

TEST_P(TransportTest, BringUpHandsTheDeviceItsQueues) {
  bring_up();
  EXPECT_EQ(guest->status(), TransportGuest::kRuns);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0]->size(), 64);
  EXPECT_EQ(device->queues[1]->size(), 32);
  EXPECT_EQ(device->queues[1]->layout().used, queue1.layout().used);
}

TEST_P(TransportTest, RingsHaveWhatTheDriverTook) {
  for (const std::uint64_t without : {kFeatureEventIdx, kFeatureIndirectDesc}) {
    guest->negotiate(~without);
    guest->set_up_queue(0, queue0.layout());
    start();
    ASSERT_EQ(device->queues.size(), 2U);
    EXPECT_EQ(device->queues[0]->layout().event_idx, without != kFeatureEventIdx);
    EXPECT_EQ(device->queues[0]->layout().indirect, without != kFeatureIndirectDesc);
  }
}

TEST_P(TransportTest, AQueueThatTheDriverDidNotEnableIsNull) {
  guest->negotiate();
  guest->set_up_queue(1, queue1.layout());
  start();
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0], nullptr);
  EXPECT_NE(device->queues[1], nullptr);
}

TEST_P(TransportTest, AnUnknownQueueReadsAsSizeZeroAndTakesNoWrites) {
  const RegisterMap& map = guest->map;
  for (const std::uint32_t select : {2U, 0x7fffU, 0xffffU}) {
    guest->set(map.queue_select, select);
    EXPECT_EQ(guest->get(map.queue_size_max), 0U) << select;
    guest->set(map.queue_size, 64);
    guest->set_address(map.descriptors, 0x1000);
    guest->set(map.queue_enable, 1);
    EXPECT_EQ(guest->get(map.queue_enable), 0U) << select;
    guest->set(map.queue_reset, 1);
    guest->set(map.queue_enable, 0);
  }
}

TEST_P(TransportTest, ABadQueueSizeIsIgnored) {
  for (const int size : {0, 3, 128, 0xffff}) {
    guest->negotiate();
    QueueLayout layout = queue0.layout();
    layout.size = static_cast<std::uint16_t>(size);
    guest->set_up_queue(0, layout);
    start();
    ASSERT_EQ(device->queues.size(), 2U) << size;
    EXPECT_EQ(device->queues[0]->size(), 64) << size;
  }
}

TEST_P(TransportTest, AQueueIsFrozenOnceEnabled) {
  guest->negotiate();
  guest->set_up_queue(0, queue0.layout());
  guest->set_address(guest->map.used, 0xdead000);
  start();
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0]->layout().used, queue0.layout().used);
}

TEST_P(TransportTest, AQueueOutsideRamAsksForAReset) {
  guest->negotiate();
  QueueLayout layout = queue0.layout();
  layout.descriptors = 0xfffffffffffff000;
  guest->set_up_queue(0, layout);
  start();
  EXPECT_NE(guest->status() & kNeedsReset, 0);
  EXPECT_EQ(device->activations, 0);
  bring_up();
  EXPECT_EQ(guest->status(), TransportGuest::kRuns) << "a reset heals it";
}

TEST_P(TransportTest, WithAQueueOutsideRamNothingStartsBeforeTheReset) {
  guest->negotiate();
  QueueLayout layout = queue0.layout();
  layout.descriptors = 0xfffffffffffff000;
  guest->set_up_queue(0, layout);
  start();
  guest->set(guest->map.queue_reset, 1);
  guest->set_up_queue(0, queue0.layout());
  start();
  EXPECT_EQ(device->activations, 0);
}

TEST_P(TransportTest, AQueueThatWasResetComesAgainInAnotherShape) {
  bring_up_quietly();
  guest->set(guest->map.queue_select, 1);
  for (const std::uint32_t value : {0U, 2U}) guest->set(guest->map.queue_reset, value);
  EXPECT_EQ(device->queue_resets[1], 0) << "only a one takes it back";
  guest->set(guest->map.queue_reset, 1);
  EXPECT_EQ(guest->get(guest->map.queue_reset), 0U) << "it is over";
  EXPECT_EQ(guest->get(guest->map.queue_enable), 0U);
  EXPECT_EQ(device->queues[1], nullptr);
  EXPECT_NE(device->queues[0], nullptr);
  guest->set(guest->map.queue_reset, 1);
  EXPECT_EQ(device->queue_resets[1], 1) << "it is taken back already";
  const FakeQueue smaller(memory, 8_MiB, 16);
  guest->set_up_queue(1, smaller.layout());
  ASSERT_NE(device->queues[1], nullptr);
  EXPECT_EQ(device->queues[1]->size(), 16);
  guest->kick(1);
  EXPECT_TRUE(eventually([&] { return guest->interrupted(); }));
}

// Kicks and interrupts

TEST_P(TransportTest, AKickReachesTheDeviceAndItsInterruptTheGuest) {
  bring_up_quietly();
  const int before = guest->kicks(1);
  ASSERT_TRUE(guest->kick(1));
  EXPECT_TRUE(eventually([&] { return guest->interrupted(); }));
  EXPECT_GT(guest->kicks(1), before);
  EXPECT_EQ(guest->acknowledge(), kIsrQueue);
  EXPECT_EQ(guest->acknowledge(), 0) << "it is acknowledged";
}

TEST_P(TransportTest, AConfigurationChangeInterruptsAndCountsItsGeneration) {
  bring_up_quietly();
  const auto generation = guest->get(guest->map.generation);
  device->transport().interrupt_queue(99);
  EXPECT_FALSE(guest->interrupted()) << "there is no such queue";
  device->transport().interrupt_config();
  EXPECT_TRUE(guest->interrupted());
  EXPECT_NE(guest->get(guest->map.generation), generation);
  EXPECT_EQ(guest->acknowledge(), kIsrConfig);
}

TEST_P(TransportTest, ADeviceWithoutADriverInterruptsNobody) {
  guest->negotiate();
  const auto generation = guest->get(guest->map.generation);
  device->transport().interrupt_config();
  device->transport().interrupt_queue(0);
  device->transport().interrupt_queue(99);
  EXPECT_FALSE(guest->interrupted());
  EXPECT_NE(guest->get(guest->map.generation), generation) << "one that reads it just now reads it again";
}

TEST_P(TransportTest, ABrokenGuestGetsNeedsResetAndItsQueuesStop) {
  bring_up_quietly();
  {
    const std::lock_guard lock(device->mutex());
    device->complain = true;
  }
  guest->kick(0);
  ASSERT_TRUE(eventually([&] { return (guest->status() & kNeedsReset) != 0 && guest->interrupted(); }));
  EXPECT_EQ(guest->acknowledge(), kIsrConfig) << "the guest is told";
  const int before = guest->kicks(1);
  guest->kick(1);
  pause();
  EXPECT_EQ(guest->kicks(1), before);
  guest->set(guest->map.queue_select, 1);
  guest->set(guest->map.queue_reset, 1);
  guest->set_up_queue(1, queue1.layout());
  EXPECT_EQ(device->queues[1], nullptr) << "none comes back to it either";
  device->transport().needs_reset("the test says so again");
  EXPECT_FALSE(guest->interrupted()) << "the guest was told";
  guest->set_status(0);
  EXPECT_EQ(guest->status(), 0);
}

TEST_P(TransportTest, KicksOfALentQueueGoElsewhereUntilTheReset) {
  bring_up_quietly();
  const int before = guest->kicks(0);
  const UniqueFd elsewhere(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  {
    const std::lock_guard lock(device->mutex());
    device->transport().divert_kicks(0, elsewhere.get());
  }
  ASSERT_TRUE(guest->kick(0));
  std::uint64_t count = 0;
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(guest->kicks(0), before);
  bring_up();
  EXPECT_TRUE(eventually([&] { return guest->kicks(0) > before; })) << "the device's own again";
}

// Life

TEST_P(TransportTest, ResetDrainsAndForgets) {
  bring_up();
  guest->kick(0);
  guest->set_status(0);
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(guest->status(), 0);
  EXPECT_EQ(guest->acknowledge(), 0);
  guest->kick(0);
  guest->kick(1);
  pause();
  EXPECT_EQ(device->calls_while_reset, 0);
  guest->set(guest->map.queue_select, 0);
  EXPECT_EQ(guest->get(guest->map.queue_enable), 0U);
}

TEST_P(TransportTest, TheNextDriverFindsNothingOfWhatTheLastOneChose) {
  const RegisterMap& map = guest->map;
  guest->negotiate();
  guest->set_up_queue(1, FakeQueue(memory, 8_MiB, 16).layout());
  guest->set(map.device_feature_select, 1);
  guest->set(map.driver_feature_select, 1);
  guest->set_status(0);
  EXPECT_EQ(guest->get(map.queue_size_max), 64U) << "queue 0 is chosen";
  EXPECT_EQ(guest->get(map.device_feature) & 0xff, 0x5U) << "and the low words of the features are";
  guest->set_status(TransportGuest::kBegun);
  guest->set(map.driver_feature, 0x1);
  guest->set(map.driver_feature_select, 1);
  guest->set(map.driver_feature, kFeatureVersion1 >> 32);
  guest->set_status(TransportGuest::kReadyToRun);
  guest->set(map.queue_select, 1);
  guest->set(map.queue_enable, 1);
  start();
  EXPECT_EQ(device->features, kFeatureVersion1 | 0x1);
  ASSERT_EQ(device->queues.size(), 2U);
  ASSERT_NE(device->queues[1], nullptr);
  const QueueLayout& layout = device->queues[1]->layout();
  EXPECT_EQ(layout.size, 32);
  EXPECT_EQ(layout.descriptors, 0U);
  EXPECT_EQ(layout.available, 0U);
  EXPECT_EQ(layout.used, 0U);
}

TEST_P(TransportTest, ADeviceThatNeverRanIsNotReset) {
  guest->set_status(0);
  guest->set_status(kAcknowledge);
  guest->set_status(0);
  EXPECT_EQ(device->resets, 0);
}

TEST_P(TransportTest, ManyLivesFollowEachOther) {
  for (int life = 1; life <= 50; ++life) {
    bring_up();
    ASSERT_EQ(device->activations, life);
    guest->kick(0);
  }
  EXPECT_EQ(device->calls_while_reset, 0);
}

TEST_P(TransportTest, DestroyingARunningDeviceLetsGoOfEverything) {
  bring_up();
  EXPECT_EQ(guest->host.doorbells.size(), 2U);
  guest->kick(0);
  guest->destroy();
  EXPECT_TRUE(guest->host.doorbells.empty());
  EXPECT_EQ(guest->get(guest->map.device_feature), 0xffffffffU);
}

TEST_P(TransportTest, DeviceConfigurationIsBounded) {
  const unsigned config = guest->map.config;
  guest->set({config}, 0x11223344);
  EXPECT_EQ(guest->get({config}), 0x11223344U);
  EXPECT_EQ(guest->get({config + 1, 1}), 0x33U);
  guest->set({config + 4}, 0x11223344);
  EXPECT_EQ(guest->get({config + 4}), 0U) << "not writable";
  EXPECT_EQ(guest->get({config + 6}), 0xffffffffU) << "across its end";
  guest->set({config + 8}, 1);
  guest->set({config + 0xefc}, 1);
}

// Packed rings

TEST_P(TransportTest, PackedRingsAreOfferedOnRequestOnly) {
  EXPECT_EQ(guest->offered() & kFeatureRingPacked, 0U);
}

class PackedTransportTest : public TransportTest {
 protected:
  PackedTransportTest() : TransportTest(true) {}
};
INSTANTIATE_TEST_SUITE_P(Over, PackedTransportTest, kInterfaces, name_of);

TEST_P(PackedTransportTest, ADriverThatTakesPackedRingsGetsThem) {
  EXPECT_NE(guest->offered() & kFeatureRingPacked, 0U);
  guest->negotiate();
  FakePackedQueue packed(memory, 1_MiB, 48);
  guest->set_up_queue(0, packed.layout());
  start();
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_TRUE(device->queues[0]->layout().packed);
  EXPECT_EQ(device->queues[0]->size(), 48) << "no power of two, as packed rings may";
}

TEST_P(PackedTransportTest, ADriverThatDoesNotGetsSplitOnes) {
  guest->negotiate(~kFeatureRingPacked);
  guest->set_up_queue(0, queue0.layout());
  start();
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_FALSE(device->queues[0]->layout().packed);
}

}  // namespace
}  // namespace balloon::vmm::test
