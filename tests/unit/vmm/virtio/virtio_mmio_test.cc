// The MMIO transport, driven as a guest's driver drives it: registers, kicks, its pin.
#include "vmm/virtio/virtio_mmio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <thread>
#include <type_traits>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/fake_packed_queue.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_transport;
using testing::HasSubstr;

// Registers (virtio 1.2, 4.2.2), by the specification's offsets.
constexpr unsigned kMagic = 0x00, kVersion = 0x04, kDeviceId = 0x08, kVendor = 0x0c, kDeviceFeatures = 0x10,
                   kDeviceFeaturesSelect = 0x14, kDriverFeatures = 0x20, kDriverFeaturesSelect = 0x24,
                   kQueueSelect = 0x30, kQueueSizeMax = 0x34, kQueueSize = 0x38, kQueueReady = 0x44,
                   kNotify = 0x50, kInterruptStatus = 0x60, kAcknowledgeInterrupt = 0x64, kStatus = 0x70,
                   kQueueDesc = 0x80, kQueueDriver = 0x90, kQueueDevice = 0xa0, kSharedLength = 0xb0,
                   kQueueReset = 0xc0, kGeneration = 0xfc, kConfig = 0x100;
constexpr std::uint8_t kReadyToRun = kAcknowledge | kDriver | kFeaturesOk;
constexpr MmioPlace kPlace{.address = 0xfeb00000, .pin = 16};

/// One device behind its window, and the driver's way with it.
class MmioGuest {
 public:
  MmioGuest(const GuestMemory& memory, EventLoop& loop, TransportConfig config) {
    auto made = std::make_unique<FakeDevice>();
    device = made.get();
    auto created = VirtioMmio::create(std::move(made), memory, loop, host, bus, kPlace, config);
    EXPECT_TRUE(created);
    transport = std::move(*created);
  }

  template <typename T = std::uint32_t>
  T read(unsigned offset) const {
    return bus_read<T>(bus, kPlace.address + offset);
  }
  template <typename T = std::uint32_t>
  void write(unsigned offset, std::type_identity_t<T> value) {
    bus_write<T>(bus, kPlace.address + offset, value);
  }
  std::uint8_t status() const { return static_cast<std::uint8_t>(read(kStatus)); }
  void set_status(std::uint32_t value) { write(kStatus, value); }
  std::uint64_t offered() {
    write(kDeviceFeaturesSelect, 0);
    const std::uint64_t low = read(kDeviceFeatures);
    write(kDeviceFeaturesSelect, 1);
    return low | std::uint64_t{read(kDeviceFeatures)} << 32;
  }
  void accept(std::uint64_t features) {
    for (std::uint32_t word = 0; word < 2; ++word) {
      write(kDriverFeaturesSelect, word);
      write(kDriverFeatures, static_cast<std::uint32_t>(features >> (32 * word)));
    }
  }
  void negotiate(std::uint64_t features = ~0ULL) {
    set_status(0);
    set_status(kAcknowledge);
    set_status(kAcknowledge | kDriver);
    accept(offered() & features);
    set_status(kReadyToRun);
  }
  void set_address(unsigned offset, GuestAddress address) {
    write(offset, static_cast<std::uint32_t>(address));
    write(offset + 4, static_cast<std::uint32_t>(address >> 32));
  }
  void set_up_queue(std::uint16_t index, const QueueLayout& layout) {
    write(kQueueSelect, index);
    write(kQueueSize, layout.size);
    set_address(kQueueDesc, layout.descriptors);
    set_address(kQueueDriver, layout.available);
    set_address(kQueueDevice, layout.used);
    write(kQueueReady, 1);
  }
  bool kick(std::uint16_t queue) {
    return host.kick({.address = kPlace.address + kNotify, .width = 4, .value = queue});
  }
  int kicks(std::uint16_t queue) {
    const std::lock_guard lock(device->mutex);
    return device->kicks[queue];
  }

  FakePciHost host;
  Bus bus;
  std::unique_ptr<VirtioMmio> transport;
  FakeDevice* device = nullptr;
};

class VirtioMmioTest : public testing::Test {
 protected:
  explicit VirtioMmioTest(bool packed = false)
      : config{.interface = VirtioInterface::mmio, .packed_rings = packed} {}
  /// All the way to DRIVER_OK, as Linux goes it.
  void bring_up() {
    guest.negotiate();
    guest.set_up_queue(0, queue0.layout());
    guest.set_up_queue(1, queue1.layout());
    guest.set_status(kReadyToRun | kDriverOk);
  }
  /// Until the looks that follow DRIVER_OK are over, and their interrupts acknowledged.
  void bring_up_quietly() {
    bring_up();
    ASSERT_TRUE(eventually([&] { return guest.kicks(0) > 0 && guest.kicks(1) > 0; }));
    guest.write(kAcknowledgeInterrupt, 3);
    ASSERT_FALSE(guest.host.pin());
  }

  const TransportConfig config;
  GuestMemory memory = make_memory();
  FakeQueue queue0{memory, 1 * kMiB, 64};
  FakeQueue queue1{memory, 2 * kMiB, 32};
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  MmioGuest guest{memory, *loop, config};
  FakeDevice* const device = guest.device;
};

TEST_F(VirtioMmioTest, ItIsAModernVirtioDevice) {
  EXPECT_EQ(guest.read(kMagic), 0x74726976U) << "virt";
  EXPECT_EQ(guest.read(kVersion), 2U);
  EXPECT_EQ(guest.read(kDeviceId), 5U);
  EXPECT_NE(guest.read(kVendor), 0U);
  EXPECT_EQ(guest.host.pin_gsi, kPlace.pin);
}

TEST_F(VirtioMmioTest, ItOffersTheDevicesFeaturesAndVersion1) {
  EXPECT_EQ(guest.offered(), FakeDevice::kFeatures | kFeatureVersion1 | kFeatureRingReset);
  guest.write(kDeviceFeaturesSelect, 2);
  EXPECT_EQ(guest.read(kDeviceFeatures), 0U) << "words past the second are reserved";
}

TEST_F(VirtioMmioTest, FeaturesThatWereNotOfferedAreRefused) {
  guest.set_status(kAcknowledge | kDriver);
  guest.accept(guest.offered() | 0x2);
  guest.set_status(kReadyToRun);
  EXPECT_EQ(guest.status(), kAcknowledge | kDriver);
}

TEST_F(VirtioMmioTest, ALegacyDriverIsRefused) {
  guest.negotiate(~kFeatureVersion1);
  EXPECT_EQ(guest.status() & kFeaturesOk, 0);
}

TEST_F(VirtioMmioTest, FeaturesAreFrozenOnceAccepted) {
  guest.negotiate();
  const std::uint64_t accepted = guest.offered();
  guest.accept(0);
  guest.set_status(kReadyToRun | kDriverOk);
  EXPECT_EQ(device->features, accepted);
}

TEST_F(VirtioMmioTest, BringUpHandsTheDeviceItsQueues) {
  bring_up();
  EXPECT_EQ(guest.status(), kReadyToRun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0]->size(), 64);
  EXPECT_EQ(device->queues[1]->layout().used, queue1.layout().used);
}

TEST_F(VirtioMmioTest, AQueueThatTheDriverDidNotMakeReadyIsNull) {
  guest.negotiate();
  guest.set_up_queue(1, queue1.layout());
  guest.set_status(kReadyToRun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0], nullptr);
  EXPECT_NE(device->queues[1], nullptr);
}

TEST_F(VirtioMmioTest, AKickReachesTheDeviceAndItsInterruptTheGuest) {
  bring_up_quietly();
  const int before = guest.kicks(1);
  ASSERT_TRUE(guest.kick(1));
  EXPECT_TRUE(eventually([&] { return guest.host.pin(); }));
  EXPECT_GT(guest.kicks(1), before);
  EXPECT_EQ(guest.read(kInterruptStatus), 1U) << "queue interrupt";
  EXPECT_TRUE(guest.host.pin()) << "reading does not acknowledge";
  guest.write(kAcknowledgeInterrupt, 1);
  EXPECT_FALSE(guest.host.pin());
  EXPECT_EQ(guest.read(kInterruptStatus), 0U);
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
  guest.write(kAcknowledgeInterrupt, 1);
  EXPECT_EQ(guest.read(kInterruptStatus), 2U);
  EXPECT_TRUE(guest.host.pin());
  guest.write(kAcknowledgeInterrupt, 2);
  EXPECT_FALSE(guest.host.pin());
}

TEST_F(VirtioMmioTest, AConfigurationChangeInterruptsAndCountsItsGeneration) {
  bring_up_quietly();
  const auto generation = guest.read(kGeneration);
  device->transport().interrupt_config();
  EXPECT_TRUE(guest.host.pin());
  EXPECT_NE(guest.read(kGeneration), generation);
  EXPECT_EQ(guest.read(kInterruptStatus), 2U);
}

TEST_F(VirtioMmioTest, ADeviceWithoutADriverInterruptsNobody) {
  device->transport().interrupt_config();
  device->transport().interrupt_queue(0);
  device->transport().interrupt_queue(99);
  EXPECT_FALSE(guest.host.pin());
}

TEST_F(VirtioMmioTest, KicksOfQueuesThatAreNotThereAreIgnored) {
  bring_up_quietly();
  for (const std::uint32_t queue : {2U, 0xffffU, 0x10000U, 0xffffffffU}) guest.write(kNotify, queue);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(guest.host.pin());
}

TEST_F(VirtioMmioTest, AnUnknownQueueReadsAsSizeZeroAndTakesNoWrites) {
  for (const std::uint32_t select : {2U, 0x7fffU, 0xffffU, 0x10000U, 0xffffffffU}) {
    guest.write(kQueueSelect, select);
    EXPECT_EQ(guest.read(kQueueSizeMax), 0U) << select;
    guest.write(kQueueSize, 64);
    guest.set_address(kQueueDesc, 0x1000);
    guest.write(kQueueReady, 1);
    EXPECT_EQ(guest.read(kQueueReady), 0U) << select;
    guest.write(kQueueReset, 1);
    guest.write(kQueueReady, 0);
  }
  guest.write(kQueueSelect, 0);
  EXPECT_EQ(guest.read(kQueueReady), 0U) << "0x10000 is not queue 0";
}

TEST_F(VirtioMmioTest, ABadQueueSizeIsIgnored) {
  for (const std::uint32_t size : {0U, 3U, 128U, 0xffffU, 0x10010U}) {
    guest.negotiate();
    QueueLayout layout = queue0.layout();
    guest.set_up_queue(1, queue1.layout());
    guest.write(kQueueSelect, 0);
    EXPECT_EQ(guest.read(kQueueSizeMax), 64U);
    guest.write(kQueueSize, size);
    guest.set_address(kQueueDesc, layout.descriptors);
    guest.set_address(kQueueDriver, layout.available);
    guest.set_address(kQueueDevice, layout.used);
    guest.write(kQueueReady, 1);
    guest.set_status(kReadyToRun | kDriverOk);
    ASSERT_EQ(device->queues.size(), 2U) << size;
    EXPECT_EQ(device->queues[0]->size(), 64) << size;
  }
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

TEST_F(VirtioMmioTest, AQueueOutsideRamAsksForAReset) {
  guest.negotiate();
  QueueLayout layout = queue0.layout();
  layout.descriptors = 0xfffffffffffff000;
  guest.set_up_queue(0, layout);
  guest.set_status(kReadyToRun | kDriverOk);
  EXPECT_NE(guest.status() & kNeedsReset, 0);
  EXPECT_EQ(device->activations, 0);
  bring_up();
  EXPECT_EQ(guest.status(), kReadyToRun | kDriverOk) << "a reset heals it";
}

TEST_F(VirtioMmioTest, ABrokenGuestGetsNeedsResetAndItsQueuesStop) {
  bring_up_quietly();
  {
    const std::lock_guard lock(device->mutex);
    device->complain = true;
  }
  guest.kick(0);
  ASSERT_TRUE(eventually([&] { return (guest.status() & kNeedsReset) != 0; }));
  EXPECT_TRUE(eventually([&] { return guest.read(kInterruptStatus) == 2; })) << "the guest is told";
  const int before = guest.kicks(1);
  guest.kick(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(guest.kicks(1), before);
  guest.set_status(0);
  EXPECT_EQ(guest.status(), 0U);
  EXPECT_FALSE(guest.host.pin());
}

TEST_F(VirtioMmioTest, ResetDrainsAndForgets) {
  bring_up();
  guest.kick(0);
  guest.set_status(0);
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(guest.status(), 0U);
  EXPECT_EQ(guest.read(kInterruptStatus), 0U);
  guest.kick(0);
  guest.kick(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(device->calls_while_reset, 0);
  guest.write(kQueueSelect, 0);
  EXPECT_EQ(guest.read(kQueueReady), 0U);
}

TEST_F(VirtioMmioTest, TheDriverCannotSetNeedsResetOrClearBits) {
  guest.negotiate();
  guest.set_status(kNeedsReset | kReadyToRun);
  EXPECT_EQ(guest.status(), kReadyToRun);
  guest.set_status(kAcknowledge);
  EXPECT_EQ(guest.status(), kReadyToRun);
  guest.set_status(0x100);
  EXPECT_EQ(guest.status(), kReadyToRun) << "no reset: its reserved bits are not zero";
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
  EXPECT_EQ(guest.status(), kReadyToRun);
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
  EXPECT_EQ(guest.status(), kReadyToRun);
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

TEST_F(VirtioMmioTest, DeviceConfigurationIsBounded) {
  guest.write(kConfig, 0x11223344);
  EXPECT_EQ(guest.read(kConfig), 0x11223344U);
  EXPECT_EQ(guest.read<std::uint8_t>(kConfig + 1), 0x33);
  guest.write(kConfig + 4, 0x11223344);
  EXPECT_EQ(guest.read(kConfig + 4), 0U) << "not writable";
  EXPECT_EQ(guest.read(kConfig + 6), 0xffffffffU);
  guest.write<std::uint64_t>(kConfig + 8, 1);
  guest.write<std::uint64_t>(virtio_mmio::kWindow - 8, 1);
}

// RING_RESET (2.6.1), and QueueReady's zero, which needs no feature (4.2.2.1)

TEST_F(VirtioMmioTest, AQueueIsTakenBackAndGivenAgainInAnotherShape) {
  bring_up_quietly();
  guest.write(kQueueSelect, 1);
  guest.write(kQueueReset, 1);
  EXPECT_EQ(guest.read(kQueueReset), 0U) << "it is over";
  EXPECT_EQ(guest.read(kQueueReady), 0U);
  EXPECT_EQ(device->queue_resets[1], 1);
  EXPECT_EQ(device->queues[1], nullptr);
  EXPECT_NE(device->queues[0], nullptr);
  guest.write(kQueueReset, 1);
  EXPECT_EQ(device->queue_resets[1], 1) << "it is taken back already";
  FakeQueue smaller(memory, 8 * kMiB, 16);
  guest.set_up_queue(1, smaller.layout());
  ASSERT_NE(device->queues[1], nullptr);
  EXPECT_EQ(device->queues[1]->size(), 16);
  guest.kick(1);
  EXPECT_TRUE(eventually([&] { return guest.host.pin(); }));
}

TEST_F(VirtioMmioTest, WithoutTheFeatureAQueueIsNotResetButStopped) {
  guest.negotiate(~kFeatureRingReset);
  guest.set_up_queue(1, queue1.layout());
  guest.set_status(kReadyToRun | kDriverOk);
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
  guest.set_status(kReadyToRun | kDriverOk);
  EXPECT_EQ(device->queues.at(0), nullptr);
  EXPECT_NE(device->queues.at(1), nullptr);
}

// Its life on the bus

TEST_F(VirtioMmioTest, DestroyingARunningDeviceLetsGoOfEverything) {
  bring_up();
  EXPECT_EQ(guest.host.doorbells.size(), 2U);
  guest.kick(0);
  guest.transport.reset();
  EXPECT_TRUE(guest.host.doorbells.empty());
  EXPECT_EQ(guest.read(kMagic), 0xffffffffU);
}

TEST_F(VirtioMmioTest, AWindowThatIsTakenIsAnError) {
  const auto second = VirtioMmio::create(std::make_unique<FakeDevice>(), memory, *loop, guest.host, guest.bus,
                                         kPlace, config);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("something else lies there"));
  EXPECT_EQ(guest.read(kMagic), 0x74726976U) << "the first is where it was";
  EXPECT_EQ(guest.host.doorbells.size(), 2U);
}

TEST_F(VirtioMmioTest, KicksOfALentQueueGoElsewhereUntilTheReset) {
  bring_up_quietly();
  const int before = guest.kicks(0);
  const UniqueFd elsewhere(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  {
    const std::lock_guard lock(device->mutex);
    device->transport().divert_kicks(0, elsewhere.get());
    EXPECT_EQ(device->transport().interrupt_event(0), -1) << "a pin cannot be raised by an eventfd";
  }
  ASSERT_TRUE(guest.kick(0));
  std::uint64_t count = 0;
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(guest.kicks(0), before);
  bring_up();
  EXPECT_TRUE(eventually([&] { return guest.kicks(0) > before; })) << "the device's own again";
}

class PackedVirtioMmioTest : public VirtioMmioTest {
 protected:
  PackedVirtioMmioTest() : VirtioMmioTest(true) {}
};

TEST_F(PackedVirtioMmioTest, ADriverThatTakesPackedRingsGetsThem) {
  EXPECT_NE(guest.offered() & kFeatureRingPacked, 0U);
  guest.negotiate();
  FakePackedQueue packed(memory, 1 * kMiB, 48);
  guest.set_up_queue(0, packed.layout());
  guest.set_status(kReadyToRun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_TRUE(device->queues[0]->layout().packed);
  EXPECT_EQ(device->queues[0]->size(), 48) << "no power of two, as packed rings may";
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
  EXPECT_EQ(guest.status(), kReadyToRun | kDriverOk);
  EXPECT_EQ(device->calls_while_reset, 0);
}

// Snapshots

class VirtioMmioStateTest : public VirtioMmioTest {
 protected:
  Result<void> move_over() {
    StateWriter writer;
    guest.transport->save(writer);
    second.emplace(memory, *loop, config);
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
  second->set_status(kReadyToRun | kDriverOk);
  EXPECT_EQ(second->device->features, 0x5 | kFeatureVersion1);
  EXPECT_EQ(second->device->queues.at(1)->layout().descriptors, queue1.layout().descriptors);
}

TEST_F(VirtioMmioStateTest, ARunningDriverFindsItsQueuesWhereTheyWere) {
  bring_up_quietly();
  for (int i = 0; i < 5; ++i) {
    const std::lock_guard lock(device->mutex);
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
