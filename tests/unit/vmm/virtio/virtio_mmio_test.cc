// SPDX-License-Identifier: Apache-2.0
// The MMIO transport, driven as a guest's driver drives it: registers, kicks, its pin.
#include "vmm/virtio/virtio_mmio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/mmio_guest.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_transport;
using namespace mmio_register;
using testing::HasSubstr;

class VirtioMmioTest : public testing::Test {
 protected:
  /// All the way to DRIVER_OK.
  void bring_up() {
    guest.negotiate();
    guest.set_up_queue(0, queue0.layout());
    guest.set_up_queue(1, queue1.layout());
    guest.set_status(MmioGuest::kRuns);
  }
  /// Until the looks that follow DRIVER_OK are over, and their interrupts acknowledged.
  void bring_up_quietly() {
    bring_up();
    ASSERT_TRUE(eventually([&] { return guest.kicks(0) > 0 && guest.kicks(1) > 0; }));
    guest.write(kAcknowledgeInterrupt, 3);
    ASSERT_FALSE(guest.host.pin());
  }

  static constexpr TransportConfig kConfigured{.interface = VirtioInterface::mmio};
  GuestMemory memory = make_memory();
  FakeQueue queue0{memory, 1_MiB, 64};
  FakeQueue queue1{memory, 2_MiB, 32};
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  MmioGuest guest{memory, *loop, kConfigured};
  FakeDevice* const device = guest.device;
};

TEST_F(VirtioMmioTest, ItIsAModernVirtioDevice) {
  EXPECT_EQ(guest.read(kMagic), 0x74726976U) << "virt";
  EXPECT_EQ(guest.read(kVersion), 2U);
  EXPECT_EQ(guest.read(kDeviceId), 5U);
  EXPECT_NE(guest.read(kVendor), 0U);
  EXPECT_EQ(guest.host.pin_gsi, MmioGuest::kPlace.pin);
}

TEST_F(VirtioMmioTest, AKickThatKvmDidNotTakeWorksToo) {
  bring_up_quietly();
  const int before = guest.kicks(1);
  const int of_the_other = guest.kicks(0);
  guest.write(kNotify, 1);
  EXPECT_TRUE(eventually([&] { return guest.kicks(1) > before; }));
  EXPECT_EQ(guest.kicks(0), of_the_other);
}

TEST_F(VirtioMmioTest, AnAcknowledgementOfOneCauseKeepsThePinForTheOther) {
  bring_up_quietly();
  device->transport().interrupt_config();
  device->transport().interrupt_queue(0);
  EXPECT_EQ(guest.read(kInterruptStatus), 3U);
  EXPECT_EQ(guest.read(kInterruptStatus), 3U) << "reading does not acknowledge";
  guest.write(kAcknowledgeInterrupt, 1);
  EXPECT_EQ(guest.read(kInterruptStatus), 2U);
  EXPECT_TRUE(guest.host.pin());
  guest.write(kAcknowledgeInterrupt, 2);
  EXPECT_FALSE(guest.host.pin());
}

TEST_F(VirtioMmioTest, AnInterruptHandlerDoesNotWaitForABusyDevice) {
  bring_up_quietly();
  const std::lock_guard busy(device->mutex());
  device->transport().interrupt_queue(0);
  EXPECT_EQ(guest.acknowledge(), kIsrQueue);
  EXPECT_FALSE(guest.host.pin());
}

TEST_F(VirtioMmioTest, KicksOfQueuesThatAreNotThereAreIgnored) {
  bring_up_quietly();
  for (const std::uint32_t queue : {2U, 0xffffU, 0x10000U, 0xffffffffU}) guest.write(kNotify, queue);
  catch_up(*loop);
  EXPECT_FALSE(guest.host.pin());
}

TEST_F(VirtioMmioTest, AQueueNumberPast16BitsIsNoOtherQueue) {
  guest.negotiate();
  guest.write(kQueueSelect, 0x10000);
  EXPECT_EQ(guest.read(kQueueSizeMax), 0U);
  guest.write(kQueueReady, 1);
  guest.write(kQueueSelect, 0);
  EXPECT_EQ(guest.read(kQueueReady), 0U);
}

TEST_F(VirtioMmioTest, AQueueSizePast16BitsIsIgnored) {
  guest.negotiate();
  guest.write(kQueueSelect, 0);
  guest.write(kQueueSize, 0x10010);
  guest.set_address(kQueueDesc, queue0.layout().descriptors);
  guest.set_address(kQueueDriver, queue0.layout().available);
  guest.set_address(kQueueDevice, queue0.layout().used);
  guest.write(kQueueReady, 1);
  guest.set_status(MmioGuest::kRuns);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0]->size(), 64);
}

TEST_F(VirtioMmioTest, QueueConfigurationIsFrozenAfterDriverOk) {
  // The class of CVE-2026-5747: a size or an address changed under a running device.
  bring_up();
  guest.write(kQueueSelect, 0);
  guest.write(kQueueSize, 16);
  guest.set_address(kQueueDesc, 0xdead000);
  guest.write(kQueueReady, 1);
  EXPECT_EQ(device->activations, 1);
  EXPECT_EQ(device->queues[0]->size(), 64);
  StateWriter state;  // holds the addresses, which no register tells
  guest.transport->save(state);
  const auto wrong = std::as_bytes(std::span("\x00\xd0\xea\x0d", 4));
  EXPECT_TRUE(std::ranges::search(state.bytes(), wrong).empty());
}

TEST_F(VirtioMmioTest, AStatusPastEightBitsIsNoReset) {
  guest.negotiate();
  guest.set_status(0x100);
  EXPECT_EQ(guest.status(), MmioGuest::kReadyToRun);
}

TEST_F(VirtioMmioTest, AccessesOfTheWrongWidthOrPlaceDoNothing) {
  guest.negotiate();
  EXPECT_EQ(guest.read<std::uint8_t>(kMagic), 0);
  EXPECT_EQ(guest.read<std::uint16_t>(kMagic), 0);
  EXPECT_EQ(guest.read<std::uint64_t>(kMagic), 0U);
  EXPECT_EQ(guest.read(kMagic + 2), 0U);
  guest.write<std::uint8_t>(kStatus, 0);
  guest.write<std::uint16_t>(kStatus, 0);
  guest.write<std::uint64_t>(kStatus, 0);
  guest.write(kStatus + 1, 0);
  EXPECT_EQ(guest.status(), MmioGuest::kReadyToRun);
  guest.write<std::uint64_t>(kConfig - 4, ~0ULL);
  EXPECT_EQ(guest.read(kConfig), 0U) << "an access across the registers' end";
}

TEST_F(VirtioMmioTest, WritesToReadOnlyAndReservedRegistersDoNothing) {
  guest.negotiate();
  for (const unsigned offset : {kMagic, kVersion, kDeviceId, kVendor, kDeviceFeatures, kQueueSizeMax,
                                kInterruptStatus, kGeneration, kSharedLength, 0x18U, 0x3cU, 0xacU, 0xd0U}) {
    const auto before = guest.read(offset);
    guest.write(offset, ~before);
    EXPECT_EQ(guest.read(offset), before) << offset;
  }
  EXPECT_EQ(guest.status(), MmioGuest::kReadyToRun);
}

TEST_F(VirtioMmioTest, WriteOnlyRegistersReadAsZero) {
  bring_up();
  for (const unsigned offset : {kDeviceFeaturesSelect, kDriverFeatures, kQueueSelect, kQueueSize, kNotify,
                                kAcknowledgeInterrupt, kQueueDesc, kQueueDriver, kQueueDevice, kQueueReset})
    EXPECT_EQ(guest.read(offset), 0U) << offset;
}

TEST_F(VirtioMmioTest, ThereIsNoSharedMemory) {
  for (unsigned offset = kSharedLength; offset < kSharedLength + 16; offset += 4)
    EXPECT_EQ(guest.read(offset), 0xffffffffU);
}

// RING_RESET (2.6.1), and QueueReady's zero, which needs no feature (4.2.2.1)

TEST_F(VirtioMmioTest, WithoutTheFeatureAQueueIsNotResetButStopped) {
  guest.negotiate(~kFeatureRingReset);
  guest.set_up_queue(1, queue1.layout());
  guest.set_status(MmioGuest::kRuns);
  guest.write(kQueueReset, 1);
  EXPECT_EQ(device->queue_resets[1], 0);
  guest.write(kQueueReady, 0);
  EXPECT_EQ(guest.read(kQueueReady), 0U);
  EXPECT_EQ(device->queue_resets[1], 1);
  guest.set_up_queue(1, queue1.layout());
  EXPECT_EQ(guest.read(kQueueReady), 0U) << "only a reset of the device gives it back";
}

TEST_F(VirtioMmioTest, AQueueIsMadeUnreadyBeforeDriverOk) {
  guest.negotiate();
  guest.set_up_queue(0, queue0.layout());
  guest.write(kQueueReady, 0);
  guest.set_up_queue(1, queue1.layout());
  guest.set_status(MmioGuest::kRuns);
  EXPECT_EQ(device->queues.at(0), nullptr);
  EXPECT_NE(device->queues.at(1), nullptr);
}

// Its life on the bus

TEST_F(VirtioMmioTest, AWindowThatIsTakenIsAnError) {
  const auto second = VirtioMmio::create(std::make_unique<FakeDevice>(), memory, *loop, guest.host,
                                         guest.mmio, MmioGuest::kPlace, kConfigured);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("something else lies there"));
  EXPECT_EQ(guest.read(kMagic), 0x74726976U) << "the first is where it was";
  EXPECT_EQ(guest.host.doorbells.size(), 2U);
}

TEST_F(VirtioMmioTest, NoEventfdRaisesItsPin) {
  bring_up();
  const std::lock_guard lock(device->mutex());
  EXPECT_EQ(device->transport().interrupt_event(0), -1) << "who serves a queue for it must come to us";
}

TEST_F(VirtioMmioTest, ARandomGuestHarmsNothing) {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  const auto random = [&] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int i = 0; i < 100'000; ++i) {
    const auto place = static_cast<unsigned>(random() % 0x110);
    switch (random() % 6) {
      case 0:
        guest.write<std::uint8_t>(place, static_cast<std::uint8_t>(random()));
        break;
      case 1:
        guest.write<std::uint64_t>(place, random());
        break;
      case 2:
        guest.read<std::uint64_t>(place);
        break;
      case 3:
        guest.write(place & ~3U, static_cast<std::uint32_t>(random() % 70));
        break;
      case 4:
        guest.write(kQueueSelect, static_cast<std::uint32_t>(random() % 3));
        break;
      default:
        guest.set_status(static_cast<std::uint8_t>(random()));
    }
  }
  bring_up();
  EXPECT_EQ(guest.status(), MmioGuest::kRuns);
  EXPECT_EQ(device->calls_while_reset, 0);
}

// Snapshots

class VirtioMmioStateTest : public VirtioMmioTest {
 protected:
  Result<void> move_over() {
    StateWriter writer;
    guest.transport->save(writer);
    second.emplace(memory, *loop, kConfigured);
    StateReader reader(writer.bytes());
    return second->transport->load(reader);
  }
  std::vector<std::uint32_t> registers(MmioGuest& of) {
    std::vector<std::uint32_t> all;
    for (std::uint32_t queue = 0; queue < 3; ++queue) {
      of.write(kQueueSelect, queue);
      for (unsigned offset = 0; offset < kGeneration; offset += 4) all.push_back(of.read(offset));
    }
    all.push_back(of.host.pin());
    return all;
  }
  std::optional<MmioGuest> second;
};

TEST_F(VirtioMmioStateTest, AHalfSetUpDriverGoesOn) {
  guest.negotiate(0x5 | kFeatureVersion1);
  guest.set_up_queue(1, queue1.layout());
  ASSERT_TRUE(move_over());
  EXPECT_EQ(registers(*second), registers(guest));
  EXPECT_EQ(second->device->activations, 0);
  second->set_status(MmioGuest::kRuns);
  EXPECT_EQ(second->device->features, 0x5 | kFeatureVersion1);
  EXPECT_EQ(second->device->queues.at(1)->layout().descriptors, queue1.layout().descriptors);
}

TEST_F(VirtioMmioStateTest, ARunningDriverFindsItsQueuesWhereTheyWere) {
  bring_up_quietly();
  for (int i = 0; i < 5; ++i) {
    const std::lock_guard lock(device->mutex());
    ChainBuilder(queue1).writable(16).submit();
    device->queues[1]->put(std::move(**device->queues[1]->take()), 4);
  }
  ASSERT_TRUE(move_over());
  ASSERT_EQ(second->device->activations, 1);
  EXPECT_EQ(second->device->features, device->features);
  EXPECT_EQ(second->device->queues[1]->position(), (QueuePosition{.next_available = 5, .next_used = 5}));
  EXPECT_TRUE(second->host.pin()) << "an interrupt that was on its way is not lost";
  EXPECT_TRUE(eventually([&] { return second->kicks(0) > 0; }));
}

TEST_F(VirtioMmioStateTest, ThePinAndItsCauseComeAlong) {
  bring_up_quietly();
  device->transport().needs_reset("the test says so");
  ASSERT_TRUE(guest.host.pin());
  ASSERT_TRUE(move_over());
  EXPECT_TRUE(second->host.pin());
  EXPECT_EQ(second->status(), guest.status());
  EXPECT_EQ(second->read(kInterruptStatus) & kIsrConfig, kIsrConfig);
  second->write(kAcknowledgeInterrupt, 3);
  EXPECT_FALSE(second->host.pin());
}

TEST_F(VirtioMmioStateTest, TheStateOfAnotherPlaceIsRefused) {
  StateWriter writer;
  writer.section("virtio-mmio 0xfeb01000 fake");
  StateReader reader(writer.bytes());
  EXPECT_FALSE(guest.transport->load(reader));
}

}  // namespace
}  // namespace balloon::vmm::test
