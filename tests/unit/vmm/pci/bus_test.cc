// SPDX-License-Identifier: Apache-2.0
#include "vmm/bus.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/pci/guest_pci.h"

namespace balloon::vmm::test {
namespace {

class Recorder : public BusDevice {
 public:
  void bus_read(std::uint64_t offset, std::span<std::byte> into) override {
    std::ranges::fill(into, std::byte{static_cast<std::uint8_t>(offset)});
  }
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override {
    written_offset = offset;
    written_size = from.size();
  }
  std::uint64_t written_offset = 0;
  std::size_t written_size = 0;
};

TEST(Bus, WhatNobodyClaimsReadsAsAllOnes) {
  Bus bus;
  EXPECT_EQ(bus_read<std::uint32_t>(bus, 0x1234), 0xffffffffU);
  bus_write<std::uint32_t>(bus, 0x1234, 7);  // and a write there harms nothing
}

TEST(Bus, AccessesReachTheirRangeWithTheOffsetInIt) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.add("device", 0x100, 0x10, device));
  EXPECT_EQ(bus_read<std::uint8_t>(bus, 0x105), 5);
  bus_write<std::uint16_t>(bus, 0x10e, 1);
  EXPECT_EQ(device.written_offset, 0xeU);
  EXPECT_EQ(device.written_size, 2U);
}

TEST(Bus, AnAccessOverTheRangesEndReachesNobody) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.add("device", 0x100, 0x10, device));
  EXPECT_EQ(bus_read<std::uint32_t>(bus, 0x10e), 0xffffffffU);
  bus_write<std::uint32_t>(bus, 0x10e, 1);
  EXPECT_EQ(device.written_size, 0U);
}

TEST(Bus, OverlapsAndImpossibleRangesAreRefused) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.add("device", 0x100, 0x10, device));
  EXPECT_FALSE(bus.add("same", 0x100, 0x10, device));
  EXPECT_FALSE(bus.add("end over start", 0xf8, 0x9, device));
  EXPECT_FALSE(bus.add("start in the middle", 0x10f, 1, device));
  EXPECT_FALSE(bus.add("empty", 0x200, 0, device));
  EXPECT_FALSE(bus.add("wraps", ~0ULL, 2, device));
  EXPECT_TRUE(bus.add("right behind", 0x110, 1, device));
  EXPECT_TRUE(bus.add("right before", 0xff, 1, device));
}

TEST(Bus, ARemovedRangeIsGone) {
  Bus bus;
  Recorder device;
  ASSERT_TRUE(bus.add("device", 0x100, 0x10, device));
  bus.remove(0x100);
  EXPECT_EQ(bus_read<std::uint8_t>(bus, 0x105), 0xff);
}

}  // namespace
}  // namespace balloon::vmm::test
