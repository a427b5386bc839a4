// The transport, driven as a guest's driver drives it: what the function says of itself, negotiation, queues,
// resets.
#include "vmm/pci/virtio_pci.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/pci/virtio_pci_fixture.h"
#include "tests/unit/vmm/virtio/fake_packed_queue.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_pci;

TEST_F(VirtioPciTest, ItIsAModernVirtioFunction) {
  EXPECT_EQ(config.read<std::uint16_t>(0), 0x1af4);
  EXPECT_EQ(config.read<std::uint16_t>(2), 0x1045);
  EXPECT_EQ(config.read<std::uint8_t>(8), 1) << "revision";
  EXPECT_EQ(config.read<std::uint32_t>(8) >> 8, 0x00ff00U) << "class";
}

TEST_F(VirtioPciTest, ItsCapabilitiesNameEveryStructureInTheBar) {
  for (const unsigned type : {1U, 2U, 3U, 4U, 5U}) {
    const auto at = config.capability([&](unsigned offset) {
      return config.read<std::uint8_t>(offset) == 0x09 && config.read<std::uint8_t>(offset + 3) == type;
    });
    ASSERT_TRUE(at) << "type " << type;
    EXPECT_GE(config.read<std::uint8_t>(*at + 2), 16) << "type " << type;
    const auto end =
        std::uint64_t{config.read<std::uint32_t>(*at + 8)} + config.read<std::uint32_t>(*at + 12);
    EXPECT_LE(end, kBarSize) << "type " << type;
  }
}

TEST_F(VirtioPciTest, ItOffersTheDevicesFeaturesAndVersion1) {
  EXPECT_EQ(offered(), FakeDevice::kFeatures | kFeatureVersion1 | kFeatureRingReset);
  set_common<std::uint32_t>(kDeviceFeatureSelect, 2);
  EXPECT_EQ(common<std::uint32_t>(kDeviceFeature), 0U) << "words past the second are reserved";
}

TEST_F(VirtioPciTest, FeaturesThatWereNotOfferedAreRefused) {
  set_status(kAcknowledge | kDriver);
  accept(offered() | 0x2);
  set_status(kAccepted);
  EXPECT_EQ(status(), kAcknowledge | kDriver);
}

TEST_F(VirtioPciTest, ALegacyDriverIsRefused) {
  set_status(kAcknowledge | kDriver);
  accept(offered() & ~kFeatureVersion1);
  set_status(kAccepted);
  EXPECT_EQ(status() & kFeaturesOk, 0);
}

TEST_F(VirtioPciTest, FeaturesAreFrozenOnceAccepted) {
  negotiate();
  const std::uint64_t accepted = offered();
  accept(0);
  set_status(kAccepted | kDriverOk);
  EXPECT_EQ(device->features, accepted);
}

TEST_F(VirtioPciTest, DriverOkWithoutFeaturesOkDoesNothing) {
  set_status(kAcknowledge | kDriver | kDriverOk);
  EXPECT_EQ(device->activations, 0);
  EXPECT_EQ(status() & kDriverOk, 0);
}

TEST_F(VirtioPciTest, BringUpHandsTheDeviceItsQueues) {
  bring_up();
  EXPECT_EQ(status(), kAccepted | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0]->size(), 64);
  EXPECT_EQ(device->queues[1]->size(), 32);
}

TEST_F(VirtioPciTest, AQueueThatTheDriverDidNotEnableIsNull) {
  negotiate();
  set_up_queue(1, queue1.layout());
  set_status(kAccepted | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0], nullptr);
  EXPECT_NE(device->queues[1], nullptr);
}

TEST_F(VirtioPciTest, DriverOkTwiceActivatesOnce) {
  bring_up();
  set_status(kAccepted | kDriverOk);
  EXPECT_EQ(device->activations, 1);
}

TEST_F(VirtioPciTest, AnUnknownQueueReadsAsSizeZeroAndTakesNoWrites) {
  for (const std::uint16_t select : {std::uint16_t{2}, std::uint16_t{0x7fff}, std::uint16_t{0xffff}}) {
    set_common<std::uint16_t>(kQueueSelect, select);
    EXPECT_EQ(common<std::uint16_t>(kQueueSize), 0) << select;
    EXPECT_EQ(common<std::uint16_t>(kQueueVector), kNoVector) << select;
    set_common<std::uint16_t>(kQueueSize, 64);
    set_common<std::uint64_t>(kQueueDesc, 0x1000);
    set_common<std::uint16_t>(kQueueEnable, 1);
    EXPECT_EQ(common<std::uint16_t>(kQueueEnable), 0) << select;
  }
}

TEST_F(VirtioPciTest, ABadQueueSizeIsIgnored) {
  set_common<std::uint16_t>(kQueueSelect, 0);
  for (const std::uint16_t size :
       {std::uint16_t{0}, std::uint16_t{3}, std::uint16_t{128}, std::uint16_t{0xffff}}) {
    set_common<std::uint16_t>(kQueueSize, size);
    EXPECT_EQ(common<std::uint16_t>(kQueueSize), 64) << size;
  }
  set_common<std::uint16_t>(kQueueSize, 16);
  EXPECT_EQ(common<std::uint16_t>(kQueueSize), 16);
}

TEST_F(VirtioPciTest, QueueConfigurationIsFrozenAfterDriverOk) {
  // The class of CVE-2026-5747: a size or an address changed under a running device.
  bring_up();
  set_common<std::uint16_t>(kQueueSelect, 0);
  set_common<std::uint16_t>(kQueueSize, 16);
  set_common<std::uint64_t>(kQueueDesc, 0xdead000);
  EXPECT_EQ(common<std::uint16_t>(kQueueSize), 64);
  EXPECT_EQ(common<std::uint64_t>(kQueueDesc), queue0.layout().descriptors);
}

TEST_F(VirtioPciTest, AQueueIsFrozenOnceEnabled) {
  negotiate();
  set_up_queue(0, queue0.layout());
  set_common<std::uint64_t>(kQueueDevice, 0xdead000);
  EXPECT_EQ(common<std::uint64_t>(kQueueDevice), queue0.layout().used);
}

TEST_F(VirtioPciTest, AQueueOutsideRamAsksForAReset) {
  negotiate();
  QueueLayout layout = queue0.layout();
  layout.descriptors = 0xfffffffffffff000;
  set_up_queue(0, layout);
  set_status(kAccepted | kDriverOk);
  EXPECT_NE(status() & kNeedsReset, 0);
  EXPECT_EQ(device->activations, 0);
  bring_up();
  EXPECT_EQ(status(), kAccepted | kDriverOk) << "a reset heals it";
}

TEST_F(VirtioPciTest, ABrokenGuestGetsNeedsResetAndItsQueuesStop) {
  bring_up();
  ASSERT_TRUE(eventually([&] { return kicks(0) > 0 && kicks(1) > 0; }));  // the look that follows DRIVER_OK
  {
    const std::lock_guard lock(device->mutex);
    device->complain = true;
  }
  kick(0);
  ASSERT_TRUE(eventually([&] { return (status() & kNeedsReset) != 0; }));
  EXPECT_EQ(host.line(0).triggers, 1) << "the guest is told by a configuration interrupt";
  const int before = kicks(1);
  kick(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(kicks(1), before);
  set_status(0);
  EXPECT_EQ(status(), 0);
}

TEST_F(VirtioPciTest, ResetDrainsAndForgets) {
  bring_up();
  kick(0);
  set_status(0);
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(status(), 0);
  kick(0);
  kick(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(device->calls_while_reset, 0);
  set_common<std::uint16_t>(kQueueSelect, 0);
  EXPECT_EQ(common<std::uint16_t>(kQueueEnable), 0);
  EXPECT_EQ(common<std::uint16_t>(kQueueSize), 64);
  EXPECT_EQ(common<std::uint16_t>(kQueueVector), kNoVector);
}

TEST_F(VirtioPciTest, ADeviceThatNeverRanIsNotReset) {
  set_status(0);
  set_status(kAcknowledge);
  set_status(0);
  EXPECT_EQ(device->resets, 0);
}

TEST_F(VirtioPciTest, ManyLivesFollowEachOther) {
  for (int life = 1; life <= 50; ++life) {
    bring_up();
    ASSERT_EQ(device->activations, life);
    kick(0);
  }
  EXPECT_EQ(device->calls_while_reset, 0);
}

TEST_F(VirtioPciTest, TheDriverCannotSetNeedsResetOrClearBits) {
  negotiate();
  set_status(kNeedsReset | kAccepted);
  EXPECT_EQ(status(), kAccepted);
  set_status(kAcknowledge);
  EXPECT_EQ(status(), kAccepted);
}

TEST_F(VirtioPciTest, DestroyingARunningDeviceResetsItAndLetsGoOfEverything) {
  bring_up();
  kick(0);
  root.reset();
  EXPECT_TRUE(host.doorbells.empty());
}

class PackedVirtioPciTest : public VirtioPciTest {
 protected:
  PackedVirtioPciTest() : VirtioPciTest({.packed_rings = true}) {}
};

TEST_F(VirtioPciTest, PackedRingsAreOfferedOnRequestOnly) { EXPECT_EQ(offered() & kFeatureRingPacked, 0U); }

TEST_F(PackedVirtioPciTest, ADriverThatTakesPackedRingsGetsThem) {
  EXPECT_NE(offered() & kFeatureRingPacked, 0U);
  negotiate();
  FakePackedQueue packed(memory, 1 * kMiB, 48);
  set_up_queue(0, packed.layout());
  set_status(kAccepted | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_TRUE(device->queues[0]->layout().packed);
  EXPECT_EQ(device->queues[0]->size(), 48) << "no power of two, as packed rings may";
}

TEST_F(PackedVirtioPciTest, ADriverThatDoesNotGetsSplitOnes) {
  set_status(kAcknowledge | kDriver);
  accept(offered() & ~kFeatureRingPacked);
  set_status(kAccepted);
  set_up_queue(0, queue0.layout());
  set_status(kAccepted | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_FALSE(device->queues[0]->layout().packed);
}

}  // namespace
}  // namespace balloon::vmm::test
