// SPDX-License-Identifier: Apache-2.0
// The transport, driven as a guest's driver drives it: configuration ports, capabilities, BAR accesses,
// kicks.
#include "vmm/pci/virtio_pci.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/pci/pci_guest.h"
#include "tests/unit/vmm/pci/virtio_function.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_pci;
using namespace common_field;

class VirtioPciTest : public testing::Test {
 protected:
  /// All the way to DRIVER_OK.
  void bring_up() {
    guest.negotiate();
    guest.set_up_queue(0, queue0.layout());
    guest.set_up_queue(1, queue1.layout());
    guest.set_status(PciGuest::kRuns);
  }

  GuestMemory memory = make_memory();
  FakeQueue queue0{memory, 1_MiB, 64};
  FakeQueue queue1{memory, 2_MiB, 32};
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  PciGuest guest{memory, *loop, {}};
  FakeDevice* const device = guest.device;
  FakePciHost& host = guest.host;
  Bus& mmio = guest.mmio;
  const ConfigPorts& config = guest.config;
  const std::uint32_t bar = guest.bar;
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

TEST_F(VirtioPciTest, EachStructureIsWhereItsCapabilitySays) {
  struct Structure {
    std::uint8_t length;  ///< of the capability
    std::uint8_t type;
    std::uint8_t bar;
    std::uint32_t offset;
    std::uint32_t size;
    bool operator==(const Structure&) const = default;
  };
  std::vector<Structure> found;
  config.capability([&](unsigned at) {
    if (config.read<std::uint8_t>(at) == 0x09) {
      found.push_back({config.read<std::uint8_t>(at + 2), config.read<std::uint8_t>(at + 3),
                       config.read<std::uint8_t>(at + 4), config.read<std::uint32_t>(at + 8),
                       config.read<std::uint32_t>(at + 12)});
    }
    return false;
  });
  // Common configuration, ISR, the device's eight bytes, doorbells of two queues in both BARs, and access.
  const std::vector<Structure> expected = {{16, 1, 0, 0, 60}, {16, 3, 0, 0x1000, 1}, {16, 4, 0, 0x2000, 8},
                                           {20, 2, 1, 0, 8},  {20, 2, 0, 0x3000, 8}, {20, 5, 0, 0, 0}};
  EXPECT_EQ(found, expected);
  const auto msix = config.capability([&](unsigned at) { return config.read<std::uint8_t>(at) == 0x11; });
  ASSERT_TRUE(msix);
  EXPECT_EQ(config.read<std::uint16_t>(*msix + 2), 2) << "three vectors";
  EXPECT_EQ(config.read<std::uint32_t>(*msix + 4), 0x4000U) << "their table";
  EXPECT_EQ(config.read<std::uint32_t>(*msix + 8), 0x5000U) << "what of them is pending";
}

class DeviceOfKind final : public FakeDevice {
 public:
  explicit DeviceOfKind(DeviceId id) : id_(id) {}
  DeviceId id() const override { return id_; }

 private:
  DeviceId id_;
};

TEST_F(VirtioPciTest, EveryKindOfDeviceHasItsIds) {  // 4.1.2; classes as QEMU has them
  struct Kind {
    DeviceId id;
    std::uint32_t modern;
    std::uint32_t transitional;
    std::uint32_t class_code;
  };
  for (const Kind& kind : {Kind{DeviceId::net, 0x10411af4, 0x10001af4, 0x020000},
                           Kind{DeviceId::block, 0x10421af4, 0x10011af4, 0x010000},
                           Kind{DeviceId::console, 0x10431af4, 0x10031af4, 0x078000},
                           Kind{DeviceId::entropy, 0x10441af4, 0x10051af4, 0x00ff00},
                           Kind{DeviceId::balloon, 0x10451af4, 0x10021af4, 0x00ff00}}) {
    for (const auto interface : {VirtioInterface::modern, VirtioInterface::transitional}) {
      const bool modern = interface == VirtioInterface::modern;
      VirtioFunction function;
      function.plug_in(std::make_unique<DeviceOfKind>(kind.id), memory, *loop, {.interface = interface});
      EXPECT_EQ(function.config.read<std::uint32_t>(0), modern ? kind.modern : kind.transitional);
      EXPECT_EQ(function.config.read<std::uint32_t>(8), kind.class_code << 8 | (modern ? 1U : 0U));
      EXPECT_EQ(function.config.read<std::uint32_t>(0x2c),
                modern ? kind.modern : static_cast<std::uint32_t>(kind.id) << 16 | 0x1af4);
      function.root.reset();
    }
  }
}

TEST_F(VirtioPciTest, TheDriverReadsBackWhatItSet) {
  guest.negotiate();
  guest.set_up_queue(1, queue1.layout());
  EXPECT_EQ(guest.common<std::uint32_t>(kDeviceFeatureSelect), 1U);
  EXPECT_EQ(guest.common<std::uint32_t>(kDriverFeatureSelect), 1U);
  EXPECT_EQ(guest.common<std::uint32_t>(kDriverFeature), guest.offered() >> 32);
  guest.set_common<std::uint32_t>(kDriverFeatureSelect, 0);
  EXPECT_EQ(guest.common<std::uint32_t>(kDriverFeature), static_cast<std::uint32_t>(guest.offered()));
  guest.set_common<std::uint16_t>(kConfigVector, 2);
  EXPECT_EQ(guest.common<std::uint16_t>(kConfigVector), 2);
  EXPECT_EQ(guest.common<std::uint16_t>(kNumQueues), 2);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueSelect), 1);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueSize), 32);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueVector), 2);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueEnable), 1);
  EXPECT_EQ(guest.common<std::uint16_t>(30), 1) << "queue_notify_off";
  EXPECT_EQ(guest.common<std::uint64_t>(kQueueDesc), queue1.layout().descriptors);
  EXPECT_EQ(guest.common<std::uint64_t>(kQueueDriver), queue1.layout().available);
  EXPECT_EQ(guest.common<std::uint64_t>(kQueueDevice), queue1.layout().used);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueReset), 0);
}

TEST_F(VirtioPciTest, AnAddressIsSetWholeOrByEitherHalf) {  // 4.1.3.1
  guest.set_common<std::uint16_t>(kQueueSelect, 0);
  for (const unsigned field : {kQueueDesc, kQueueDriver, kQueueDevice}) {
    guest.set_common<std::uint64_t>(field, 0x1122334455667788);
    EXPECT_EQ(guest.common<std::uint64_t>(field), 0x1122334455667788U);
    guest.set_common<std::uint32_t>(field, 0xaabbccdd);
    EXPECT_EQ(guest.common<std::uint64_t>(field), 0x11223344aabbccddU);
    guest.set_common<std::uint32_t>(field + 4, 0x99887766);
    EXPECT_EQ(guest.common<std::uint64_t>(field), 0x99887766aabbccddU);
    guest.set_common<std::uint16_t>(field, 0);
    guest.set_common<std::uint16_t>(field + 4, 0);
    EXPECT_EQ(guest.common<std::uint64_t>(field), 0x99887766aabbccddU) << "no quarter of it";
  }
}

TEST_F(VirtioPciTest, AKickReachesTheDeviceAndItsInterruptTheGuest) {
  bring_up();
  ASSERT_TRUE(guest.kick(1));
  EXPECT_TRUE(eventually([&] { return host.line(2).triggers > 0; }));
  EXPECT_GT(guest.kicks(1), 0);
  EXPECT_EQ(host.line(2).message, (MsiMessage{0xfee00000, 0x42}));
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr), 1) << "queue interrupt";
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr), 0) << "reading acknowledges";
}

TEST_F(VirtioPciTest, AKickByAnOddWriteWorksToo) {
  bring_up();
  const int before = guest.kicks(0);
  bus_write<std::uint32_t>(mmio, bar + kNotify, 0);
  EXPECT_TRUE(eventually([&] { return guest.kicks(0) > before; }));
}

TEST_F(VirtioPciTest, TheDoorbellsThatTheDriverFindsFirstArePorts) {
  const auto at = config.capability([&](unsigned offset) {
    return config.read<std::uint8_t>(offset) == 0x09 && config.read<std::uint8_t>(offset + 3) == 2;
  });
  ASSERT_TRUE(at);
  EXPECT_EQ(config.read<std::uint8_t>(*at + 4), kKickBar);
  EXPECT_EQ(config.read<std::uint32_t>(*at + 8), 0U);
  EXPECT_EQ(config.read<std::uint32_t>(*at + 12), 2 * kNotifyMultiplier);
  const auto register_value = config.read<std::uint32_t>(0x14);
  EXPECT_EQ(register_value & 3, 1U) << "an I/O BAR";
  const std::uint32_t base = register_value & ~3U;
  EXPECT_FALSE(host.doorbells.contains({base, true})) << "I/O is off";
  config.enable_io_and_memory();
  bring_up();
  const int before = guest.kicks(1);
  ASSERT_TRUE(host.kick({base + kNotifyMultiplier, true}));
  EXPECT_TRUE(eventually([&] { return guest.kicks(1) > before; }));
  bus_write<std::uint32_t>(guest.ports, base + kNotifyMultiplier, 1);  // of a width without an ioeventfd
  EXPECT_TRUE(eventually([&] { return guest.kicks(1) > before + 1; }));
  bus_write<std::uint16_t>(guest.ports, base + 1, 1);  // between two
  EXPECT_EQ(bus_read<std::uint16_t>(guest.ports, base), 0);
  EXPECT_TRUE(guest.kick(1)) << "the doorbells in memory are there as well";
}

class DeviceOfManyQueues final : public FakeDevice {
 public:
  explicit DeviceOfManyQueues(std::size_t count) : sizes_(count, 16) {}
  std::span<const std::uint16_t> queue_sizes() const override { return sizes_; }

 private:
  std::vector<std::uint16_t> sizes_;
};

TEST_F(VirtioPciTest, MoreQueuesThanAnIoBarHasRoomForHaveTheirDoorbellsInMemoryOnly) {
  for (const std::size_t queues : {64U, 65U}) {
    test::VirtioFunction function;
    function.plug_in(std::make_unique<DeviceOfManyQueues>(queues), memory, *loop);
    const auto at = function.config.capability([&](unsigned offset) {
      return function.config.read<std::uint8_t>(offset) == 0x09 &&
             function.config.read<std::uint8_t>(offset + 3) == 2;
    });
    ASSERT_TRUE(at);
    EXPECT_EQ(function.config.read<std::uint8_t>(*at + 4), queues == 64 ? kKickBar : 0U);
    EXPECT_EQ(function.config.read<std::uint32_t>(0x14) != 0, queues == 64);
    const auto last = static_cast<std::uint32_t>(queues - 1) * kNotifyMultiplier;
    EXPECT_TRUE(function.host.doorbells.contains({function.bar + kNotify + last}));
    function.root.reset();
  }
}

TEST_F(VirtioPciTest, KicksOfQueuesThatAreNotThereAreIgnored) {
  bring_up();
  bus_write<std::uint16_t>(mmio, bar + kNotify + 2 * kNotifyMultiplier, 2);
  bus_write<std::uint16_t>(mmio, bar + kNotify + 0xffe, 0xffff);
}

TEST_F(VirtioPciTest, AnUnknownQueueReadsAsSizeZeroAndTakesNoWrites) {
  for (const std::uint16_t select : {std::uint16_t{2}, std::uint16_t{0x7fff}, std::uint16_t{0xffff}}) {
    guest.set_common<std::uint16_t>(kQueueSelect, select);
    EXPECT_EQ(guest.common<std::uint16_t>(kQueueSize), 0) << select;
    EXPECT_EQ(guest.common<std::uint16_t>(kQueueVector), kNoVector) << select;
    guest.set_common<std::uint16_t>(kQueueSize, 64);
    guest.set_common<std::uint64_t>(kQueueDesc, 0x1000);
    guest.set_common<std::uint16_t>(kQueueEnable, 1);
    EXPECT_EQ(guest.common<std::uint16_t>(kQueueEnable), 0) << select;
  }
}

TEST_F(VirtioPciTest, ABadQueueSizeIsIgnored) {
  guest.set_common<std::uint16_t>(kQueueSelect, 0);
  for (const std::uint16_t size :
       {std::uint16_t{0}, std::uint16_t{3}, std::uint16_t{128}, std::uint16_t{0xffff}}) {
    guest.set_common<std::uint16_t>(kQueueSize, size);
    EXPECT_EQ(guest.common<std::uint16_t>(kQueueSize), 64) << size;
  }
  guest.set_common<std::uint16_t>(kQueueSize, 16);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueSize), 16);
}

TEST_F(VirtioPciTest, QueueConfigurationIsFrozenAfterDriverOk) {
  // The class of CVE-2026-5747: a size or an address changed under a running device.
  bring_up();
  guest.set_common<std::uint16_t>(kQueueSelect, 0);
  guest.set_common<std::uint16_t>(kQueueSize, 16);
  guest.set_common<std::uint64_t>(kQueueDesc, 0xdead000);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueSize), 64);
  EXPECT_EQ(guest.common<std::uint64_t>(kQueueDesc), queue0.layout().descriptors);
}

TEST_F(VirtioPciTest, AVectorThatIsNotThereReadsBackAsNone) {
  guest.set_common<std::uint16_t>(kConfigVector, 3);
  EXPECT_EQ(guest.common<std::uint16_t>(kConfigVector), kNoVector);
  guest.set_common<std::uint16_t>(kQueueSelect, 0);
  guest.set_common<std::uint16_t>(kQueueVector, 0xfffe);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueVector), kNoVector);
  guest.set_common<std::uint16_t>(kQueueVector, 2);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueVector), 2);
}

TEST_F(VirtioPciTest, TheDevicesConfigurationIsWrittenAndReadWhole) {
  bus_write<std::uint64_t>(mmio, bar + kDevice, 0x1122334455667788);
  EXPECT_EQ(bus_read<std::uint64_t>(mmio, bar + kDevice), 0x55667788U) << "half of it may be written";
}

TEST_F(VirtioPciTest, ResetDrainsAndForgets) {
  bring_up();
  guest.kick(0);
  guest.set_status(0);
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(guest.status(), 0);
  guest.kick(0);
  guest.kick(1);
  catch_up(*loop);
  EXPECT_EQ(device->calls_while_reset, 0);
  guest.set_common<std::uint16_t>(kQueueSelect, 0);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueEnable), 0);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueSize), 64);
  EXPECT_EQ(guest.common<std::uint16_t>(kQueueVector), kNoVector);
  for (std::uint32_t word = 0; word < 2; ++word) {
    guest.set_common<std::uint32_t>(kDriverFeatureSelect, word);
    EXPECT_EQ(guest.common<std::uint32_t>(kDriverFeature), 0U) << "the next driver begins anew";
  }
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
  EXPECT_EQ(guest.status(), PciGuest::kRuns);
}

TEST_F(VirtioPciTest, NothingIsBehindTheCommonConfiguration) {
  bring_up();
  for (std::uint32_t offset = kCommonSize; offset < kIsr - kCommon; offset += 8)
    EXPECT_EQ(bus_read<std::uint64_t>(mmio, bar + kCommon + offset), 0U) << offset;
  EXPECT_EQ(bus_read<std::uint64_t>(mmio, bar + kCommon + kCommonSize - 4), 0U) << "nor half in it";
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
  EXPECT_EQ(guest.status(), kAcknowledge);
  point(0, kCommon + kQueueDesc, 4);
  config.write<std::uint32_t>(*at + 16, 0xabcd1234);
  EXPECT_EQ(guest.common<std::uint32_t>(kQueueDesc), 0xabcd1234U);
  EXPECT_EQ(config.read<std::uint32_t>(*at + 16), 0xabcd1234U);
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
  EXPECT_EQ(guest.status(), kAcknowledge);
}

TEST_F(VirtioPciTest, WithoutMsixItsPinInterrupts) {
  guest.use_messages = false;
  guest.negotiate();
  guest.set_up_queue(0, queue0.layout());
  guest.set_status(PciGuest::kRuns);
  device->transport().interrupt_config();
  EXPECT_TRUE(host.pin());
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr) & 2, 2);
  ASSERT_TRUE(eventually([&] { return guest.kicks(0) > 0; }));  // the look that follows DRIVER_OK
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
        guest.set_common<std::uint16_t>(static_cast<unsigned>(random() % 56),
                                        static_cast<std::uint16_t>(random()));
        break;
      case 6:
        guest.set_status(static_cast<std::uint8_t>(random()));
        break;
      default:
        config.write<std::uint8_t>(static_cast<unsigned>(0x40 + random() % 0xc0),
                                   static_cast<std::uint8_t>(random()));
    }
  }
  bring_up();
  EXPECT_EQ(guest.status(), PciGuest::kRuns);
  EXPECT_EQ(device->calls_while_reset, 0);
}

// A queue that somebody else serves (vhost)

TEST_F(VirtioPciTest, KicksOfALentQueueGoElsewhereUntilTheReset) {
  bring_up();
  ASSERT_TRUE(eventually([&] { return guest.kicks(0) > 0 && guest.kicks(1) > 0; }));
  const int before = guest.kicks(0);
  const UniqueFd elsewhere(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  {
    const std::lock_guard lock(device->mutex());
    device->transport().divert_kicks(0, elsewhere.get());
  }
  ASSERT_TRUE(guest.kick(0));
  std::uint64_t count = 0;
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  // So do kicks that KVM did not take: of an odd width.
  bus_write<std::uint32_t>(mmio, bar + kNotify, 0);
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(guest.kicks(0), before);
  const auto doorbells = host.doorbells;
  {
    const std::lock_guard lock(device->mutex());
    device->transport().divert_kicks(2, elsewhere.get());
  }
  EXPECT_EQ(host.doorbells, doorbells) << "of a queue that is not there, there is nothing to lend";
  guest.set_status(0);
  bring_up();
  EXPECT_TRUE(eventually([&] { return guest.kicks(0) > before; })) << "the device's own again";
}

TEST_F(VirtioPciTest, TheInterruptOfALentQueueIsThatOfItsVector) {
  bring_up();
  const std::lock_guard lock(device->mutex());
  EXPECT_EQ(device->transport().interrupt_event(0), host.lines[1].event);
  EXPECT_EQ(device->transport().interrupt_event(1), host.lines[2].event);
  EXPECT_EQ(device->transport().interrupt_event(2), -1);
}

TEST_F(VirtioPciTest, WhoServesALentQueueIsToldWhenItsInterruptMoves) {
  bring_up();
  int event = -1;
  {
    const std::lock_guard lock(device->mutex());
    event = device->transport().interrupt_event(0);
  }
  const auto told = [this, before = device->interrupt_changes] {
    const std::lock_guard lock(device->mutex());
    return device->interrupt_changes - before;
  };
  guest.set_common<std::uint16_t>(kQueueSelect, 0);
  EXPECT_EQ(told(), 0);
  guest.set_common<std::uint16_t>(kQueueVector, 0);
  EXPECT_EQ(told(), 1);
  {
    const std::lock_guard lock(device->mutex());
    EXPECT_NE(device->transport().interrupt_event(0), event);
  }
  bus_write<std::uint32_t>(mmio, bar + kMsixTable + 16 + 12, 1);
  EXPECT_FALSE(host.line(1).held) << "its old vector is no longer lent";
  const auto msix = config.capability([&](unsigned at) { return config.read<std::uint8_t>(at) == 0x11; });
  ASSERT_TRUE(msix);
  config.write<std::uint32_t>(*msix + 4, 0);
  EXPECT_EQ(told(), 1) << "where the table lies is not for the driver to say";
  config.write<std::uint16_t>(*msix + 2, 0);
  EXPECT_EQ(told(), 2) << "MSI-X is off";
}

TEST_F(VirtioPciTest, VectorsThatNeverWereOrAreTakenAwayUnderALentQueueHarmNothing) {  // CVE-2024-4693
  for (int life = 0; life < 3; ++life) {
    guest.use_messages = life > 0;  // in the first life MSI-X stays off, and no vector is ever set
    guest.negotiate();
    guest.set_up_queue(0, queue0.layout());
    guest.set_status(PciGuest::kRuns);
    for (const std::uint16_t vector : {std::uint16_t{2}, kNoVector, std::uint16_t{77}, std::uint16_t{1}}) {
      {
        const std::lock_guard lock(device->mutex());
        const int event = device->transport().interrupt_event(0);
        EXPECT_TRUE(event == -1 || life > 0) << "without MSI-X there is none to lend";
      }
      guest.set_common<std::uint16_t>(kQueueSelect, 0);
      guest.set_common<std::uint16_t>(kQueueVector, vector);
      guest.set_common<std::uint16_t>(kConfigVector, vector);
      device->transport().interrupt_config();
      device->transport().interrupt_queue(0);
    }
  }
  guest.destroy();
  EXPECT_TRUE(host.doorbells.empty());
}

}  // namespace
}  // namespace balloon::vmm::test
