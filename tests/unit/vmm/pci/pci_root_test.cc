// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_root.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "vmm/arch/x86_64/layout.h"

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
  EXPECT_EQ(bridge.read<std::uint16_t>(0x0a), 0x0600);
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

TEST_F(PciRootTest, BarsAnswerOnlyOnceMemoryIsEnabled) {
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar(2)), 0xff);
  config.enable_memory();
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar(2)), 2);
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
}

}  // namespace
}  // namespace balloon::vmm::test
