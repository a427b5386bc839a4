// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_root.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::test {
namespace {

/// Answers each BAR read with the BAR's number; remembers its moves.
class BarDevice : public PciDevice {
 public:
  BarDevice(const PciSpaces& spaces, std::uint32_t size)
      : PciDevice("bars", {.vendor = 0x1234, .device = 0x5678}, spaces) {
    config_.add_memory_bar(0, size);
    config_.add_memory_bar(2, size);
  }
  std::vector<std::optional<GuestAddress>> moves;

 protected:
  void read_bar(unsigned bar, std::uint64_t, std::span<std::byte> into) override {
    std::ranges::fill(into, std::byte{static_cast<std::uint8_t>(bar)});
  }
  void write_bar(unsigned, std::uint64_t, std::span<const std::byte>) override {}
  void bar_moved(unsigned bar, std::optional<GuestAddress> address) override {
    if (bar == 0) moves.push_back(address);
  }
};

class PciRootTest : public testing::Test {
 protected:
  PciRootTest() {
    EXPECT_TRUE(ports.add("PCI", layout::kPciConfigAddressPort, PciRoot::kPorts, root));
    auto made = std::make_unique<BarDevice>(spaces, 0x4000);
    device = made.get();
    EXPECT_TRUE(root.add(std::move(made)));
  }
  std::uint32_t bar(unsigned index) const { return config.read<std::uint32_t>(0x10 + index * 4); }

  Bus ports;
  Bus mmio;
  PciSpaces spaces{mmio, ports};
  PciRoot root{spaces};
  BarDevice* device = nullptr;
  ConfigPorts config{ports, 1};
};

TEST_F(PciRootTest, ItsAddressRegisterReadsBackWhatWasWritten) {
  // The probe of Linux's arch/x86/pci/direct.c, with its one-byte write that must not reach the register.
  bus_write<std::uint32_t>(ports, 0xcf8, 0x80000000);
  bus_write<std::uint8_t>(ports, 0xcfb, 0x01);
  EXPECT_EQ(bus_read<std::uint32_t>(ports, 0xcf8), 0x80000000U);
}

TEST_F(PciRootTest, SlotZeroIsAHostBridge) {
  const ConfigPorts bridge(ports, 0);
  EXPECT_EQ(bridge.read<std::uint32_t>(0), 0x00081b36U)
      << "that of QEMU's generic one, which no driver wants";
  EXPECT_EQ(bridge.read<std::uint16_t>(0x0a), 0x0600);
}

TEST_F(PciRootTest, PartsOfItsAddressRegisterReadToo) {
  bus_write<std::uint32_t>(ports, 0xcf8, 0x80123454);
  EXPECT_EQ(bus_read<std::uint8_t>(ports, 0xcf9), 0x34);
  EXPECT_EQ(bus_read<std::uint16_t>(ports, 0xcfa), 0x8012);
  bus_write<std::uint16_t>(ports, 0xcf8, 0);
  EXPECT_EQ(bus_read<std::uint32_t>(ports, 0xcf8), 0x80123454U) << "a part of it is not written";
}

TEST_F(PciRootTest, AnEmptySlotReadsAsAllOnes) {
  EXPECT_EQ(ConfigPorts(ports, 7).read<std::uint32_t>(0), 0xffffffffU);
  ConfigPorts(ports, 7).write<std::uint32_t>(4, 7);
}

TEST_F(PciRootTest, ADeviceHasTheSlotThatIsReservedForItAndNoOther) {
  root.reserve(2);
  root.reserve(5);
  EXPECT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x1000)));
  EXPECT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x1000), 5));
  EXPECT_EQ(ConfigPorts(ports, 2).read<std::uint32_t>(0), 0xffffffffU);
  EXPECT_EQ(ConfigPorts(ports, 3).read<std::uint32_t>(0), 0x56781234U);
  EXPECT_EQ(ConfigPorts(ports, 5).read<std::uint32_t>(0), 0x56781234U);
  EXPECT_FALSE(root.add(std::make_unique<BarDevice>(spaces, 0x1000), 5));
  EXPECT_FALSE(root.add(std::make_unique<BarDevice>(spaces, 0x1000), 32)) << "the bus has 32 slots";
  EXPECT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x1000), 31));
}

TEST_F(PciRootTest, OtherBusesAndFunctionsAreEmpty) {
  bus_write<std::uint32_t>(ports, 0xcf8, 0x80000000U | 1U << 16 | 1U << 11);
  EXPECT_EQ(bus_read<std::uint32_t>(ports, 0xcfc), 0xffffffffU);
  bus_write<std::uint32_t>(ports, 0xcf8, 0x80000000U | 1U << 11 | 1U << 8);
  EXPECT_EQ(bus_read<std::uint32_t>(ports, 0xcfc), 0xffffffffU);
}

TEST_F(PciRootTest, ConfigurationWritesChangeOnlyWritableBits) {
  config.write<std::uint32_t>(0x00, 0xdeadbeef);
  EXPECT_EQ(config.read<std::uint32_t>(0x00), 0x56781234U);
  config.write<std::uint16_t>(0x04, 0xffff);
  EXPECT_EQ(config.read<std::uint16_t>(0x04) & 1, 0) << "I/O decoding has nothing to enable";
}

TEST_F(PciRootTest, BarsAreplacedInTheWindowWithoutOverlap) {
  EXPECT_GE(bar(0), layout::kPciWindowStart);
  EXPECT_LE(bar(2) + 0x4000U, layout::kPciWindowStart + layout::kPciWindowSize);
  EXPECT_GE(bar(2), bar(0) + 0x4000);
}

TEST_F(PciRootTest, ABarLiesAtAMultipleOfItsSize) {
  ASSERT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x100000)));
  ASSERT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x4000)));
  const std::uint32_t large = ConfigPorts(ports, 2).read<std::uint32_t>(0x10);
  EXPECT_EQ(large, layout::kPciWindowStart + 0x100000U) << "the first place behind those that are there";
  EXPECT_EQ(ConfigPorts(ports, 3).read<std::uint32_t>(0x10), large + 0x200000);
}

TEST_F(PciRootTest, BarsAnswerOnlyOnceMemoryIsEnabled) {
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar(2)), 0xff);
  config.enable_memory();
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar(2)), 2);
  const std::size_t moves = device->moves.size();
  config.write<std::uint8_t>(0x3c, 11);
  EXPECT_EQ(device->moves.size(), moves) << "what is where it was has not moved";
  config.write<std::uint16_t>(0x04, 0);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar(2)), 0xff);
}

TEST_F(PciRootTest, SizingABarGivesItsSizeAndMovesNothingForGood) {
  config.enable_memory();
  const std::uint32_t before = bar(0);
  config.write<std::uint32_t>(0x10, 0xffffffff);
  EXPECT_EQ(bar(0), ~(0x4000U - 1));
  config.write<std::uint32_t>(0x10, before);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, before), 0);
}

TEST_F(PciRootTest, AMovedBarAnswersAtItsNewPlaceAlone) {
  config.enable_memory();
  const std::uint32_t before = bar(0);
  const std::uint32_t after = layout::kPciWindowStart + 0x100000;
  config.write<std::uint32_t>(0x10, after);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, before), 0xff);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, after), 0);
  EXPECT_EQ(device->moves.back(), after);
}

TEST_F(PciRootTest, ABarPutOutsideTheWindowOrOverAnotherAnswersNowhere) {
  config.enable_memory();
  config.write<std::uint32_t>(0x10, 0x100000);  // over RAM
  EXPECT_EQ(device->moves.back(), std::nullopt);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, 0x100000), 0xff);
  config.write<std::uint32_t>(0x10, bar(2));
  EXPECT_EQ(device->moves.back(), std::nullopt);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar(2)), 2) << "the one that was there first stays";
}

TEST_F(PciRootTest, ABarAnswersFromTheFirstToTheLastPlaceOfTheWindow) {
  config.enable_memory();
  const std::uint64_t end = layout::kPciWindowStart + layout::kPciWindowSize;
  for (const std::uint64_t place : {std::uint64_t{layout::kPciWindowStart}, end - 0x4000}) {
    config.write<std::uint32_t>(0x18, static_cast<std::uint32_t>(end - 0x8000));  // out of its way
    config.write<std::uint32_t>(0x10, static_cast<std::uint32_t>(place));
    EXPECT_EQ(device->moves.back(), place);
    EXPECT_EQ(bus_read<std::uint8_t>(mmio, place), 0);
  }
  for (const std::uint64_t place : {layout::kPciWindowStart - std::uint64_t{0x4000}, end}) {
    config.write<std::uint32_t>(0x10, static_cast<std::uint32_t>(place));
    EXPECT_EQ(device->moves.back(), std::nullopt) << place;
  }
}

class PortDevice : public PciDevice {
 public:
  explicit PortDevice(const PciSpaces& spaces)
      : PciDevice("ports", {.vendor = 0x1234, .device = 0x5678}, spaces) {
    config_.add_io_bar(0, 0x40);
  }

 protected:
  void read_bar(unsigned, std::uint64_t offset, std::span<std::byte> into) override {
    into[0] = static_cast<std::byte>(offset);
  }
  void write_bar(unsigned, std::uint64_t, std::span<const std::byte>) override {}
};

TEST_F(PciRootTest, AnIoBarAnswersInIoSpaceOnceItIsEnabled) {
  ASSERT_TRUE(root.add(std::make_unique<PortDevice>(spaces)));
  const ConfigPorts second(ports, 2);
  const auto bar0 = second.read<std::uint32_t>(0x10);
  EXPECT_EQ(bar0, layout::kPciIoStart | 1U);
  EXPECT_EQ(bus_read<std::uint8_t>(ports, layout::kPciIoStart + 5), 0xff);
  second.write<std::uint16_t>(0x04, 1);
  EXPECT_EQ(bus_read<std::uint8_t>(ports, layout::kPciIoStart + 5), 5);
  second.write<std::uint32_t>(0x10, 0xffffffff);
  EXPECT_EQ(second.read<std::uint32_t>(0x10), 0xffffffc1U) << "its size reads back";
  second.write<std::uint32_t>(0x10, 0x600);
  EXPECT_EQ(bus_read<std::uint8_t>(ports, 0x605), 0xff) << "the platform's own ports are not to be had";
  const std::uint32_t last = layout::kPciIoEnd + 1U - 0x40;
  second.write<std::uint32_t>(0x10, last);
  EXPECT_EQ(bus_read<std::uint8_t>(ports, last + 5), 5) << "the last place there is";
}

TEST_F(PciRootTest, ASnapshotWithOtherSlotsIsRefused) {
  StateWriter one;
  ASSERT_TRUE(root.save(one));
  ASSERT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x4000), 7));
  StateWriter two;
  ASSERT_TRUE(root.save(two));
  StateReader same(two.bytes());
  EXPECT_TRUE(root.load(same));
  StateReader fewer(one.bytes());
  EXPECT_FALSE(root.load(fewer));
  PciRoot other(spaces);
  ASSERT_TRUE(other.add(std::make_unique<BarDevice>(spaces, 0x4000), 1));
  StateReader more(two.bytes());
  EXPECT_FALSE(other.load(more));
}

TEST_F(PciRootTest, AFullBusRefusesOneMore) {
  for (unsigned slot = 2; slot < PciRoot::kSlots; ++slot) {
    ASSERT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x1000))) << slot;
  }
  EXPECT_FALSE(root.add(std::make_unique<BarDevice>(spaces, 0x1000)));
}

TEST_F(PciRootTest, AFullWindowRefusesOneMore) {
  ASSERT_TRUE(root.add(std::make_unique<BarDevice>(spaces, 0x4000000)));
  EXPECT_FALSE(root.add(std::make_unique<BarDevice>(spaces, 0x4000000)));
}

TEST(PciConfigSpace, AccessesPastItsEndAreHarmless) {
  PciConfigSpace space({.vendor = 1});
  std::array<std::byte, 4> bytes{};
  space.read(254, bytes);
  EXPECT_EQ(bytes[0], std::byte{0xff});
  space.write(254, bytes);
  space.read(~std::size_t{0} - 1, bytes);
  space.write(~std::size_t{0} - 1, bytes);
  space.set(254, std::array<std::byte, 4>{});
  EXPECT_EQ(space.get<std::uint16_t>(254), 0) << "nothing is there";
  space.set(254, std::array{std::byte{1}, std::byte{2}});
  EXPECT_EQ(space.get<std::uint16_t>(254), 0x0201) << "up to its end it is";
  space.set(254, std::array<std::byte, 4>{});
  EXPECT_EQ(space.get<std::uint16_t>(254), 0x0201);
}

TEST(PciConfigSpace, CapabilitiesFollowOneAnotherAtMultiplesOfFour) {
  PciConfigSpace space({.vendor = 1});
  const std::array body = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  const std::array writable = {std::byte{0}, std::byte{0x0f}};
  EXPECT_EQ(space.get<std::uint16_t>(PciConfigSpace::kStatus) & 0x10, 0) << "no capabilities yet";
  EXPECT_EQ(space.add_capability(0x09, std::span(body).first(2), {}), 0x40);
  EXPECT_EQ(space.add_capability(0x11, std::span(body).first(3), writable), 0x44);
  EXPECT_EQ(space.add_capability(0x05, body, {}), 0x4c);
  EXPECT_EQ(space.get<std::uint16_t>(PciConfigSpace::kStatus) & 0x10, 0x10);
  EXPECT_EQ(space.get<std::uint8_t>(0x34), 0x40);
  EXPECT_EQ(space.get<std::uint32_t>(0x40), 0x02014409U);
  EXPECT_EQ(space.get<std::uint32_t>(0x44), 0x02014c11U);
  EXPECT_EQ(space.get<std::uint8_t>(0x48), 3);
  EXPECT_EQ(space.get<std::uint32_t>(0x4c), 0x02010005U) << "the last one leads nowhere";
  const std::array ones = {std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}};
  space.write(0x44, ones);
  space.write(0x40, ones);
  EXPECT_EQ(space.get<std::uint32_t>(0x40), 0x02014409U);
  EXPECT_EQ(space.get<std::uint32_t>(0x44), 0x0f014c11U) << "its writable bits and no others";
}

TEST(PciConfigSpace, WhatADriverMayWriteOfTheHeaderIsWhatThePciSpecificationSays) {
  PciConfigSpace space({.vendor = 1});
  const auto write = [&](std::size_t offset, std::uint32_t value) {
    space.write(offset, std::as_bytes(std::span(&value, 1)));
    return space.get<std::uint32_t>(offset);
  };
  EXPECT_EQ(write(0x04, 0xffffffff), 0x0546U) << "memory, bus master, parity, SERR, no INTx; no status bit";
  EXPECT_EQ(write(0x0c, 0xffffffff), 0xffU) << "the cache line's size";
  EXPECT_EQ(write(0x3c, 0xffffffff), 0xffU) << "the interrupt line";
  space.set_pin(10);
  EXPECT_EQ(space.get<std::uint32_t>(0x3c), 0x010aU) << "pin A, on that line";
  EXPECT_EQ(write(0x3c, 0xffffffff), 0x01ffU) << "the line is for who reads it, the pin is not";
}

}  // namespace
}  // namespace balloon::vmm::test
