// SPDX-License-Identifier: Apache-2.0
// The legacy interface and the INTx pin, driven as drivers from before virtio 1.0 drive them.
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/pci/virtio_function.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_pci;

class LegacyTest : public testing::TestWithParam<VirtioInterface>, protected VirtioFunction {
 protected:
  LegacyTest() {
    auto made = std::make_unique<FakeDevice>();
    device = made.get();
    plug_in(std::move(made), memory, *loop, {.interface = GetParam()});
  }
  ~LegacyTest() override { root.reset(); }

  void set_status(std::uint8_t value) { set_old<std::uint8_t>(kOldStatus, value); }
  /// The rings of queue `index` as a legacy driver lays them out: in a row from a page on.
  GuestAddress set_up_queue(std::uint16_t index) {
    set_old<std::uint16_t>(kOldQueueSelect, index);
    const GuestAddress rings = (16U + index * 16U) * kPageSize;
    set_old<std::uint32_t>(kOldQueuePage, static_cast<std::uint32_t>(rings / kPageSize));
    return rings;
  }
  void bring_up() {
    set_status(0);
    set_status(kAcknowledge);
    set_status(kBegun);
    set_old<std::uint32_t>(kOldDriverFeatures, old<std::uint32_t>(kOldDeviceFeatures));
    set_up_queue(0);
    set_up_queue(1);
    set_status(kBegun | kDriverOk);
  }
  bool kick(std::uint16_t queue) {
    return host.kick({.address = base + kOldNotify, .port = true, .value = queue});
  }
  int kicks(std::uint16_t queue) {
    const std::lock_guard lock(device->mutex());
    return device->kicks[queue];
  }

  GuestMemory memory = make_memory();
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  FakeDevice* device = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Interfaces, LegacyTest,
                         testing::Values(VirtioInterface::transitional, VirtioInterface::legacy),
                         [](const auto& tested) {
                           return tested.param == VirtioInterface::legacy ? "Legacy" : "Transitional";
                         });

TEST_P(LegacyTest, ItHasTheIdsAndTheIoBarThatOldDriversLookFor) {
  EXPECT_EQ(config.read<std::uint16_t>(0), 0x1af4);
  EXPECT_EQ(config.read<std::uint16_t>(2), 0x1002) << "the balloon's";
  EXPECT_EQ(config.read<std::uint8_t>(8), 0) << "revision";
  EXPECT_EQ(config.read<std::uint16_t>(0x2e), 5) << "the virtio id is the subsystem's";
  EXPECT_EQ(config.read<std::uint32_t>(0x10) & 3U, 1U) << "BAR 0 is in I/O space";
  EXPECT_GE(base, layout::kPciIoStart);
  EXPECT_EQ(config.read<std::uint8_t>(0x3d), 1) << "pin A";
  EXPECT_EQ(host.pin_gsi, layout::pci_pin(1));
}

TEST_P(LegacyTest, TheModernStructuresAreHiddenUnlessItIsTransitional) {
  const auto vendor =
      config.capability([&](unsigned offset) { return config.read<std::uint8_t>(offset) == 0x09; });
  EXPECT_EQ(vendor.has_value(), GetParam() == VirtioInterface::transitional);
  ASSERT_NE(msix(), 0U);
  EXPECT_EQ(config.read<std::uint32_t>(msix() + 4) & 7U, 1U) << "the table is in BAR 1";
}

TEST_P(LegacyTest, ItOffersTheLowFeaturesAndAnyLayout) {
  EXPECT_EQ(old<std::uint32_t>(kOldDeviceFeatures), FakeDevice::kFeatures | kFeatureAnyLayout);
}

TEST_P(LegacyTest, BringUpHandsTheDeviceItsQueuesWithoutVersion1) {
  bring_up();
  EXPECT_EQ(old<std::uint8_t>(kOldStatus), kBegun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->features, FakeDevice::kFeatures | kFeatureAnyLayout);
  const QueueLayout& layout = device->queues[1]->layout();
  EXPECT_EQ(layout.size, 32);
  EXPECT_EQ(layout.descriptors, 32 * kPageSize);
  EXPECT_EQ(layout.available, 32 * kPageSize + 16 * 32);
  EXPECT_EQ(layout.used, 33 * kPageSize) << "on a page of its own";
  EXPECT_TRUE(layout.event_idx);
  set_old<std::uint16_t>(kOldQueueSelect, 1);
  EXPECT_EQ(old<std::uint32_t>(kOldQueuePage), 32U);
  EXPECT_EQ(old<std::uint16_t>(kOldQueueSize), 32);
  EXPECT_EQ(old<std::uint16_t>(kOldQueueSelect), 1);
  EXPECT_EQ(old<std::uint32_t>(kOldDriverFeatures), FakeDevice::kFeatures | kFeatureAnyLayout);
  EXPECT_EQ(old<std::uint64_t>(kOldDriverFeatures), 32ULL << 32 | FakeDevice::kFeatures | kFeatureAnyLayout)
      << "a wider access meets the next register as well";
}

class DeviceWithALargeQueue final : public FakeDevice {
 public:
  std::span<const std::uint16_t> queue_sizes() const override { return kSizes; }

 private:
  static constexpr std::array<std::uint16_t, 2> kSizes{256, 32};
};

TEST(LargeLegacyQueueTest, ItsUsedRingIsOnTheFirstPageBehindItsAvailableRing) {
  const GuestMemory memory = make_memory();
  const auto loop = std::move(*EventLoop::create("test-loop"));
  auto made = std::make_unique<DeviceWithALargeQueue>();
  FakeDevice& device = *made;
  VirtioFunction function;
  function.plug_in(std::move(made), memory, *loop, {.interface = VirtioInterface::legacy});
  function.set_old<std::uint8_t>(VirtioFunction::kOldStatus, VirtioFunction::kBegun);
  function.set_old<std::uint32_t>(VirtioFunction::kOldQueuePage, 16);
  function.set_old<std::uint8_t>(VirtioFunction::kOldStatus, VirtioFunction::kBegun | kDriverOk);
  {
    const std::lock_guard lock(device.mutex());
    ASSERT_EQ(device.queues.size(), 2U);
    EXPECT_EQ(device.queues[0]->layout().available, 17 * kPageSize);
    EXPECT_EQ(device.queues[0]->layout().used, 18 * kPageSize);
  }
  function.root.reset();
}

TEST_P(LegacyTest, AKickReachesTheDeviceAndItsPinTheGuest) {
  bring_up();
  ASSERT_TRUE(kick(1));
  EXPECT_TRUE(eventually([&] { return kicks(1) > 0 && host.pin(); }));
  EXPECT_EQ(config.read<std::uint16_t>(0x06) & 8, 8) << "the status register tells of the interrupt";
  EXPECT_TRUE(eventually([&] { return kicks(0) > 0; }));  // the looks that follow DRIVER_OK are over
  EXPECT_EQ(old<std::uint8_t>(kOldIsrStatus) & 1, 1);
  EXPECT_TRUE(eventually([&] { return old<std::uint8_t>(kOldIsrStatus) == 0 && !host.pin(); }))
      << "reading acknowledges and lets go of the pin";
  EXPECT_EQ(config.read<std::uint16_t>(0x06) & 8, 0);
}

TEST_P(LegacyTest, AKickWithoutIoeventfdWorksToo) {
  bring_up();
  const int before = kicks(0);
  set_old<std::uint16_t>(kOldNotify, 0);
  EXPECT_TRUE(eventually([&] { return kicks(0) > before; }));
  set_old<std::uint16_t>(kOldNotify, 99);
  set_old<std::uint16_t>(kOldNotify, 0xffff);
}

TEST_P(LegacyTest, AKickBeforeDriverOkMeansThatTheDriverIsReady) {
  // Linux before 3.18 used its queues in probe.
  set_status(kAcknowledge);
  set_status(kBegun);
  set_old<std::uint32_t>(kOldDriverFeatures, 0);
  set_up_queue(0);
  set_up_queue(1);
  kick(0);
  EXPECT_TRUE(eventually([&] { return kicks(0) > 0; }));
  set_status(kBegun | kDriverOk);
  EXPECT_EQ(device->activations, 1);
}

TEST_P(LegacyTest, KicksOfTheLifeBeforeStartNothing) {
  bring_up();
  loop->pause();
  kick(0);
  set_status(0);
  set_status(kAcknowledge);
  set_status(kBegun);
  set_up_queue(0);
  loop->resume();
  catch_up(*loop);
  EXPECT_EQ(device->activations, 1);
  set_up_queue(1);
  set_status(kBegun | kDriverOk);
  ASSERT_EQ(device->activations, 2);
  EXPECT_NE(device->queues[1], nullptr);
}

TEST_P(LegacyTest, FeaturesThatWereNotOfferedAreDropped) {
  set_status(kBegun);
  set_old<std::uint32_t>(kOldDriverFeatures, 0xffffffff);
  EXPECT_EQ(old<std::uint32_t>(kOldDriverFeatures), FakeDevice::kFeatures | kFeatureAnyLayout);
}

TEST_P(LegacyTest, QueuesAndFeaturesAreFrozenAfterDriverOk) {
  bring_up();
  set_old<std::uint16_t>(kOldQueueSelect, 0);
  set_old<std::uint32_t>(kOldQueuePage, 0xdead);
  set_old<std::uint32_t>(kOldDriverFeatures, 0);
  EXPECT_EQ(old<std::uint32_t>(kOldQueuePage), 16U);
  EXPECT_NE(old<std::uint32_t>(kOldDriverFeatures), 0U);
}

TEST_P(LegacyTest, AnUnknownQueueReadsAsSizeZero) {
  set_old<std::uint16_t>(kOldQueueSelect, 2);
  EXPECT_EQ(old<std::uint16_t>(kOldQueueSize), 0);
  set_old<std::uint32_t>(kOldQueuePage, 16);
  EXPECT_EQ(old<std::uint32_t>(kOldQueuePage), 0U);
  set_old<std::uint16_t>(kOldQueueSelect, 1);
  EXPECT_EQ(old<std::uint16_t>(kOldQueueSize), 32);
}

TEST_P(LegacyTest, AQueueOutsideRamStopsTheDeviceUntilItsReset) {
  set_status(kBegun);
  set_old<std::uint16_t>(kOldQueueSelect, 0);
  set_old<std::uint32_t>(kOldQueuePage, 0xfffffff0);
  set_status(kBegun | kDriverOk);
  EXPECT_EQ(device->activations, 0);
  EXPECT_NE(old<std::uint8_t>(kOldStatus) & kNeedsReset, 0);
  bring_up();
  EXPECT_EQ(device->activations, 1);
}

TEST_P(LegacyTest, MsixMovesTheDevicesConfigurationAndTakesThePinsPlace) {
  set_old<std::uint32_t>(kLegacyHeader, 0x11223344);
  EXPECT_EQ(old<std::uint32_t>(kLegacyHeader), 0x11223344U);
  config.write<std::uint16_t>(msix() + 2, 0x8000);
  EXPECT_EQ(old<std::uint32_t>(kLegacyHeaderMsix), 0x11223344U);
  for (std::uint32_t vector = 0; vector < 3; ++vector) {
    bus_write<std::uint32_t>(mmio, bar + kMsixTable + vector * 16, 0xfee00000);
    bus_write<std::uint32_t>(mmio, bar + kMsixTable + vector * 16 + 12, 0);
  }
  set_old<std::uint16_t>(kOldConfigVector, 0);
  EXPECT_EQ(old<std::uint16_t>(kOldConfigVector), 0);
  set_old<std::uint16_t>(kOldQueueSelect, 1);
  set_old<std::uint16_t>(kOldQueueVector, 2);
  EXPECT_EQ(old<std::uint16_t>(kOldQueueVector), 2);
  set_old<std::uint16_t>(kOldQueueVector, 77);
  EXPECT_EQ(old<std::uint16_t>(kOldQueueVector), kNoVector);
  set_old<std::uint16_t>(kOldQueueVector, 2);
  set_status(kBegun);
  set_up_queue(0);
  set_up_queue(1);
  set_status(kBegun | kDriverOk);
  device->transport().interrupt_config();
  EXPECT_EQ(host.line(0).triggers, 1);
  device->transport().interrupt_queue(1);
  EXPECT_GE(host.line(2).triggers, 1);
  EXPECT_FALSE(host.pin());
}

TEST_P(LegacyTest, ThePinIsLetGoWhenItIsForbiddenOrMsixComesOnOrTheDeviceIsReset) {
  bring_up();
  ASSERT_TRUE(eventually([&] { return kicks(0) > 0 && kicks(1) > 0 && host.pin(); }));
  config.write<std::uint16_t>(0x04, 0x0407);
  EXPECT_FALSE(host.pin()) << "INTx disabled";
  config.enable_io_and_memory();
  EXPECT_TRUE(host.pin()) << "it was only held back";
  config.write<std::uint16_t>(msix() + 2, 0x8000);
  EXPECT_FALSE(host.pin()) << "MSI-X on";
  config.write<std::uint16_t>(msix() + 2, 0);
  EXPECT_TRUE(host.pin());
  set_status(0);
  EXPECT_FALSE(host.pin()) << "reset";
}

TEST_P(LegacyTest, DoorbellsFollowTheIoBar) {
  EXPECT_TRUE(host.doorbells.contains({.address = base + kOldNotify, .port = true, .value = 1}));
  config.write<std::uint32_t>(0x10, 0x8000);
  EXPECT_FALSE(host.doorbells.contains({.address = base + kOldNotify, .port = true, .value = 1}));
  EXPECT_TRUE(host.doorbells.contains({.address = 0x8000 + kOldNotify, .port = true, .value = 1}));
  config.write<std::uint16_t>(0x04, 0x0002);
  for (const auto& [doorbell, event] : host.doorbells) EXPECT_FALSE(doorbell.port);
}

TEST_P(LegacyTest, ARandomGuestHarmsNothing) {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  const auto random = [&] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int i = 0; i < 100'000; ++i) {
    const auto offset = static_cast<unsigned>(random() % 40);
    switch (random() % 6) {
      case 0:
        set_old<std::uint8_t>(offset, static_cast<std::uint8_t>(random()));
        break;
      case 1:
        set_old<std::uint16_t>(offset, static_cast<std::uint16_t>(random() % 4));
        break;
      case 2:
        set_old<std::uint32_t>(offset, static_cast<std::uint32_t>(random() % 20'000));
        break;
      case 3:
        old<std::uint32_t>(offset);
        break;
      case 4:
        set_status(static_cast<std::uint8_t>(random()));
        break;
      default:
        bus_write<std::uint32_t>(mmio, bar + random() % kBarSize, static_cast<std::uint32_t>(random()));
    }
  }
  bring_up();
  EXPECT_EQ(old<std::uint8_t>(kOldStatus), kBegun | kDriverOk);
  EXPECT_EQ(device->calls_while_reset, 0);
}

class TransitionalTest : public LegacyTest {};
INSTANTIATE_TEST_SUITE_P(Interfaces, TransitionalTest, testing::Values(VirtioInterface::transitional));

TEST_P(TransitionalTest, AModernDriverIsServedToo) {
  set_common<std::uint8_t>(kStatus, kBegun);
  accept(offered());
  set_common<std::uint8_t>(kStatus, kAccepted);
  set_common<std::uint8_t>(kStatus, kAccepted | kDriverOk);
  EXPECT_EQ(common<std::uint8_t>(kStatus), kAccepted | kDriverOk);
  EXPECT_EQ(device->features, FakeDevice::kFeatures | kFeatureVersion1 | kFeatureRingReset);
}

}  // namespace
}  // namespace balloon::vmm::test
