// The transport, driven as a guest's driver drives it: configuration ports, capabilities, BAR accesses,
// kicks.
#include "vmm/pci/virtio_pci.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/fake_packed_queue.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/pci/pci_root.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_pci;

// Fields of the common configuration (virtio 1.2, 4.1.4.3), by the specification's offsets.
constexpr unsigned kDeviceFeatureSelect = 0, kDeviceFeature = 4, kDriverFeatureSelect = 8,
                   kDriverFeature = 12, kConfigVector = 16, kNumQueues = 18, kStatus = 20, kGeneration = 21,
                   kQueueSelect = 22, kQueueSize = 24, kQueueVector = 26, kQueueEnable = 28,
                   kQueueNotifyOff = 30, kQueueDesc = 32, kQueueDriver = 40, kQueueDevice = 48;
constexpr std::uint8_t kReadyToRun = kAcknowledge | kDriver | kFeaturesOk;

class VirtioPciTest : public testing::Test {
 protected:
  explicit VirtioPciTest(TransportConfig transport_config = {}) {
    EXPECT_TRUE(ports.add("PCI", layout::kPciConfigAddressPort, PciRoot::kPorts, *root));
    auto made = std::make_unique<FakeDevice>();
    device = made.get();
    auto transport = VirtioPci::create(std::move(made), memory, *loop, host, spaces, transport_config);
    EXPECT_TRUE(transport);
    EXPECT_TRUE(root->add(std::move(*transport)));
    config.enable_memory();
    bar = config.read<std::uint32_t>(0x10);
  }
  ~VirtioPciTest() override { root.reset(); }

  template <typename T>
  T common(unsigned offset) const {
    return bus_read<T>(mmio, bar + kCommon + offset);
  }
  template <typename T>
  void set_common(unsigned offset, T value) {
    bus_write<T>(mmio, bar + kCommon + offset, value);
  }
  std::uint8_t status() const { return common<std::uint8_t>(kStatus); }
  void set_status(std::uint8_t value) { set_common<std::uint8_t>(kStatus, value); }
  std::uint64_t offered() {
    set_common<std::uint32_t>(kDeviceFeatureSelect, 0);
    const std::uint64_t low = common<std::uint32_t>(kDeviceFeature);
    set_common<std::uint32_t>(kDeviceFeatureSelect, 1);
    return low | std::uint64_t{common<std::uint32_t>(kDeviceFeature)} << 32;
  }
  void accept(std::uint64_t features) {
    set_common<std::uint32_t>(kDriverFeatureSelect, 0);
    set_common<std::uint32_t>(kDriverFeature, static_cast<std::uint32_t>(features));
    set_common<std::uint32_t>(kDriverFeatureSelect, 1);
    set_common<std::uint32_t>(kDriverFeature, static_cast<std::uint32_t>(features >> 32));
  }
  void negotiate() {
    set_status(kAcknowledge);
    set_status(kAcknowledge | kDriver);
    accept(offered());
    set_status(kReadyToRun);
  }
  void open_vectors() {
    const auto msix = config.capability([&](unsigned at) { return config.read<std::uint8_t>(at) == 0x11; });
    ASSERT_TRUE(msix);
    config.write<std::uint16_t>(*msix + 2, 0x8000);
    for (std::uint32_t vector = 0; vector < 3; ++vector) {
      bus_write<std::uint32_t>(mmio, bar + kMsixTable + vector * 16, 0xfee00000);
      bus_write<std::uint32_t>(mmio, bar + kMsixTable + vector * 16 + 8, 0x40 + vector);
      bus_write<std::uint32_t>(mmio, bar + kMsixTable + vector * 16 + 12, 0);
    }
  }
  void set_up_queue(std::uint16_t index, const QueueLayout& layout) {
    set_common<std::uint16_t>(kQueueSelect, index);
    set_common<std::uint16_t>(kQueueSize, layout.size);
    set_common<std::uint16_t>(kQueueVector, static_cast<std::uint16_t>(index + 1));
    set_common<std::uint32_t>(kQueueDesc, static_cast<std::uint32_t>(layout.descriptors));
    set_common<std::uint32_t>(kQueueDesc + 4, static_cast<std::uint32_t>(layout.descriptors >> 32));
    set_common<std::uint64_t>(kQueueDriver, layout.available);
    set_common<std::uint64_t>(kQueueDevice, layout.used);
    set_common<std::uint16_t>(kQueueEnable, 1);
  }
  /// All the way to DRIVER_OK, as Linux goes it.
  void bring_up() {
    set_status(0);
    open_vectors();
    negotiate();
    set_common<std::uint16_t>(kConfigVector, 0);
    set_up_queue(0, queue0.layout());
    set_up_queue(1, queue1.layout());
    set_status(kReadyToRun | kDriverOk);
  }
  bool kick(std::uint16_t queue) { return host.kick({bar + kNotify + queue * kNotifyMultiplier}); }
  int kicks(std::uint16_t queue) {
    const std::lock_guard lock(device->mutex);
    return device->kicks[queue];
  }

  GuestMemory memory = make_memory();
  FakeQueue queue0{memory, 1 * kMiB, 64};
  FakeQueue queue1{memory, 2 * kMiB, 32};
  FakePciHost host;
  Bus ports;
  Bus mmio;
  PciSpaces spaces{mmio, ports};
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<PciRoot> root = std::make_unique<PciRoot>(spaces);
  FakeDevice* device = nullptr;
  ConfigPorts config{ports, 1};
  std::uint32_t bar = 0;
};

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
  set_status(kReadyToRun);
  EXPECT_EQ(status(), kAcknowledge | kDriver);
}

TEST_F(VirtioPciTest, ALegacyDriverIsRefused) {
  set_status(kAcknowledge | kDriver);
  accept(offered() & ~kFeatureVersion1);
  set_status(kReadyToRun);
  EXPECT_EQ(status() & kFeaturesOk, 0);
}

TEST_F(VirtioPciTest, FeaturesAreFrozenOnceAccepted) {
  negotiate();
  const std::uint64_t accepted = offered();
  accept(0);
  set_status(kReadyToRun | kDriverOk);
  EXPECT_EQ(device->features, accepted);
}

TEST_F(VirtioPciTest, DriverOkWithoutFeaturesOkDoesNothing) {
  set_status(kAcknowledge | kDriver | kDriverOk);
  EXPECT_EQ(device->activations, 0);
  EXPECT_EQ(status() & kDriverOk, 0);
}

TEST_F(VirtioPciTest, BringUpHandsTheDeviceItsQueues) {
  bring_up();
  EXPECT_EQ(status(), kReadyToRun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0]->size(), 64);
  EXPECT_EQ(device->queues[1]->size(), 32);
}

TEST_F(VirtioPciTest, AQueueThatTheDriverDidNotEnableIsNull) {
  negotiate();
  set_up_queue(1, queue1.layout());
  set_status(kReadyToRun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_EQ(device->queues[0], nullptr);
  EXPECT_NE(device->queues[1], nullptr);
}

TEST_F(VirtioPciTest, DriverOkTwiceActivatesOnce) {
  bring_up();
  set_status(kReadyToRun | kDriverOk);
  EXPECT_EQ(device->activations, 1);
}

TEST_F(VirtioPciTest, AKickReachesTheDeviceAndItsInterruptTheGuest) {
  bring_up();
  ASSERT_TRUE(kick(1));
  EXPECT_TRUE(eventually([&] { return host.line(2).triggers > 0; }));
  EXPECT_GT(kicks(1), 0);
  EXPECT_EQ(host.line(2).message, (MsiMessage{0xfee00000, 0x42}));
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr), 1) << "queue interrupt";
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr), 0) << "reading acknowledges";
}

TEST_F(VirtioPciTest, AKickByAnOddWriteWorksToo) {
  bring_up();
  const int before = kicks(0);
  bus_write<std::uint32_t>(mmio, bar + kNotify, 0);
  EXPECT_TRUE(eventually([&] { return kicks(0) > before; }));
}

TEST_F(VirtioPciTest, KicksOfQueuesThatAreNotThereAreIgnored) {
  bring_up();
  bus_write<std::uint16_t>(mmio, bar + kNotify + 2 * kNotifyMultiplier, 2);
  bus_write<std::uint16_t>(mmio, bar + kNotify + 0xffe, 0xffff);
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
  set_status(kReadyToRun | kDriverOk);
  EXPECT_NE(status() & kNeedsReset, 0);
  EXPECT_EQ(device->activations, 0);
  bring_up();
  EXPECT_EQ(status(), kReadyToRun | kDriverOk) << "a reset heals it";
}

TEST_F(VirtioPciTest, AVectorThatIsNotThereReadsBackAsNone) {
  set_common<std::uint16_t>(kConfigVector, 3);
  EXPECT_EQ(common<std::uint16_t>(kConfigVector), kNoVector);
  set_common<std::uint16_t>(kQueueSelect, 0);
  set_common<std::uint16_t>(kQueueVector, 0xfffe);
  EXPECT_EQ(common<std::uint16_t>(kQueueVector), kNoVector);
  set_common<std::uint16_t>(kQueueVector, 2);
  EXPECT_EQ(common<std::uint16_t>(kQueueVector), 2);
}

TEST_F(VirtioPciTest, AConfigurationChangeInterruptsAndCountsItsGeneration) {
  bring_up();
  const auto generation = common<std::uint8_t>(kGeneration);
  device->transport().interrupt_config();
  EXPECT_EQ(host.line(0).triggers, 1);
  EXPECT_NE(common<std::uint8_t>(kGeneration), generation);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr) & 2, 2);
}

TEST_F(VirtioPciTest, ADeviceWithoutADriverInterruptsNobody) {
  open_vectors();
  set_common<std::uint16_t>(kConfigVector, 0);
  device->transport().interrupt_config();
  device->transport().interrupt_queue(0);
  device->transport().interrupt_queue(99);
  EXPECT_EQ(host.line(0).triggers, 0);
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
  set_status(kNeedsReset | kReadyToRun);
  EXPECT_EQ(status(), kReadyToRun);
  set_status(kAcknowledge);
  EXPECT_EQ(status(), kReadyToRun);
}

TEST_F(VirtioPciTest, DeviceConfigurationIsBounded) {
  bus_write<std::uint32_t>(mmio, bar + kDevice, 0x11223344);
  EXPECT_EQ(bus_read<std::uint32_t>(mmio, bar + kDevice), 0x11223344U);
  bus_write<std::uint32_t>(mmio, bar + kDevice + 4, 0x11223344);
  EXPECT_EQ(bus_read<std::uint32_t>(mmio, bar + kDevice + 4), 0U) << "not writable";
  EXPECT_EQ(bus_read<std::uint32_t>(mmio, bar + kDevice + 6), 0xffffffffU);
  bus_write<std::uint64_t>(mmio, bar + kDevice + 8, 1);
  bus_write<std::uint64_t>(mmio, bar + kDevice + 0xff8, 1);
}

TEST_F(VirtioPciTest, EveryOffsetOfTheBarTakesEveryAccess) {
  bring_up();
  for (std::uint32_t offset = 0; offset + 8 <= kBarSize; offset += 4) {
    bus_read<std::uint8_t>(mmio, bar + offset);
    bus_read<std::uint16_t>(mmio, bar + offset + 1);
    bus_read<std::uint32_t>(mmio, bar + offset);
    bus_read<std::uint64_t>(mmio, bar + offset);
    bus_write<std::uint8_t>(mmio, bar + offset, 0xff);
    bus_write<std::uint16_t>(mmio, bar + offset + 1, 0xffff);
    bus_write<std::uint32_t>(mmio, bar + offset, 0xffffffff);
    bus_write<std::uint64_t>(mmio, bar + offset, ~0ULL);
  }
  bring_up();
  EXPECT_EQ(status(), kReadyToRun | kDriverOk);
}

TEST_F(VirtioPciTest, TheAccessCapabilityReadsAndWritesTheBar) {
  const auto at = config.capability([&](unsigned offset) {
    return config.read<std::uint8_t>(offset) == 0x09 && config.read<std::uint8_t>(offset + 3) == 5;
  });
  ASSERT_TRUE(at);
  const auto point = [&](std::uint8_t index, std::uint32_t offset, std::uint32_t length) {
    config.write<std::uint8_t>(*at + 4, index);
    config.write<std::uint32_t>(*at + 8, offset);
    config.write<std::uint32_t>(*at + 12, length);
  };
  point(0, kCommon + kNumQueues, 2);
  EXPECT_EQ(config.read<std::uint16_t>(*at + 16), 2);
  point(0, kCommon + kStatus, 1);
  config.write<std::uint8_t>(*at + 16, kAcknowledge);
  EXPECT_EQ(status(), kAcknowledge);
  // Bad windows do nothing (cloud-hypervisor #8272: a length that was believed).
  point(0, kBarSize, 4);
  config.write<std::uint32_t>(*at + 16, 1);
  point(0, 0xfffffffc, 4);
  config.read<std::uint32_t>(*at + 16);
  point(0, 2, 4);
  config.write<std::uint32_t>(*at + 16, 1);
  point(0, 0, 0xffffffff);
  config.write<std::uint32_t>(*at + 16, 1);
  config.read<std::uint32_t>(*at + 16);
  point(5, 0, 4);
  config.write<std::uint32_t>(*at + 16, 1);
  EXPECT_EQ(status(), kAcknowledge);
}

TEST_F(VirtioPciTest, WithoutMsixItsPinInterrupts) {
  negotiate();
  set_up_queue(0, queue0.layout());
  set_status(kReadyToRun | kDriverOk);
  device->transport().interrupt_config();
  EXPECT_TRUE(host.pin());
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr) & 2, 2);
  ASSERT_TRUE(eventually([&] { return kicks(0) > 0; }));  // the look that follows DRIVER_OK
  EXPECT_TRUE(eventually([&] { return (bus_read<std::uint8_t>(mmio, bar + kIsr), !host.pin()); }));
}

TEST_F(VirtioPciTest, WithMsixItsPinIsStill) {
  bring_up();
  device->transport().interrupt_config();
  EXPECT_FALSE(host.pin());
}

TEST_F(VirtioPciTest, DoorbellsFollowTheBar) {
  EXPECT_TRUE(host.doorbells.contains({bar + kNotify}));
  const std::uint32_t moved = layout::kPciWindowStart + 0x1000000;
  config.write<std::uint32_t>(0x10, moved);
  EXPECT_FALSE(host.doorbells.contains({bar + kNotify}));
  EXPECT_TRUE(host.doorbells.contains({moved + kNotify + kNotifyMultiplier}));
  config.write<std::uint16_t>(0x04, 0);
  EXPECT_TRUE(host.doorbells.empty());
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
  set_status(kReadyToRun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_TRUE(device->queues[0]->layout().packed);
  EXPECT_EQ(device->queues[0]->size(), 48) << "no power of two, as packed rings may";
}

TEST_F(PackedVirtioPciTest, ADriverThatDoesNotGetsSplitOnes) {
  set_status(kAcknowledge | kDriver);
  accept(offered() & ~kFeatureRingPacked);
  set_status(kReadyToRun);
  set_up_queue(0, queue0.layout());
  set_status(kReadyToRun | kDriverOk);
  ASSERT_EQ(device->queues.size(), 2U);
  EXPECT_FALSE(device->queues[0]->layout().packed);
}

TEST_F(VirtioPciTest, ARandomGuestHarmsNothing) {
  std::uint64_t state = 0x9e3779b97f4a7c15;
  const auto random = [&] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  };
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t at = bar + random() % kBarSize;
    switch (random() % 8) {
      case 0:
        bus_write<std::uint8_t>(mmio, at, static_cast<std::uint8_t>(random()));
        break;
      case 1:
        bus_write<std::uint16_t>(mmio, at, static_cast<std::uint16_t>(random() % 70));
        break;
      case 2:
        bus_write<std::uint32_t>(mmio, at, static_cast<std::uint32_t>(random()));
        break;
      case 3:
        bus_write<std::uint64_t>(mmio, at, random());
        break;
      case 4:
        bus_read<std::uint64_t>(mmio, at);
        break;
      case 5:
        set_common<std::uint16_t>(static_cast<unsigned>(random() % 56), static_cast<std::uint16_t>(random()));
        break;
      case 6:
        set_status(static_cast<std::uint8_t>(random()));
        break;
      default:
        config.write<std::uint8_t>(static_cast<unsigned>(0x40 + random() % 0xc0),
                                   static_cast<std::uint8_t>(random()));
    }
  }
  bring_up();
  EXPECT_EQ(status(), kReadyToRun | kDriverOk);
  EXPECT_EQ(device->calls_while_reset, 0);
}

// A queue that somebody else serves (vhost)

TEST_F(VirtioPciTest, KicksOfALentQueueGoElsewhereUntilTheReset) {
  bring_up();
  ASSERT_TRUE(eventually([&] { return kicks(0) > 0 && kicks(1) > 0; }));
  const int before = kicks(0);
  const UniqueFd elsewhere(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  {
    const std::lock_guard lock(device->mutex);
    device->transport().divert_kicks(0, elsewhere.get());
  }
  ASSERT_TRUE(kick(0));
  std::uint64_t count = 0;
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  // So do kicks that KVM did not take: of an odd width.
  bus_write<std::uint32_t>(mmio, bar + kNotify, 0);
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(kicks(0), before);
  set_status(0);
  bring_up();
  EXPECT_TRUE(eventually([&] { return kicks(0) > before; })) << "the device's own again";
}

TEST_F(VirtioPciTest, TheInterruptOfALentQueueIsThatOfItsVector) {
  bring_up();
  const std::lock_guard lock(device->mutex);
  EXPECT_EQ(device->transport().interrupt_event(0), host.lines[1].event);
  EXPECT_EQ(device->transport().interrupt_event(1), host.lines[2].event);
  EXPECT_EQ(device->transport().interrupt_event(2), -1);
}

}  // namespace
}  // namespace balloon::vmm::test
