// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/e820.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/boot/kernel_files.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

std::uint64_t ram_in(const std::vector<MemoryMapEntry>& map) {
  std::uint64_t sum = 0;
  for (const MemoryMapEntry& entry : map) sum += entry.type == MemoryType::ram ? entry.size : 0;
  return sum;
}

constexpr std::uint64_t kReservedLow = layout::kHighRamStart - layout::kLowRamEnd;

TEST(MemoryMapTest, ASmallGuestHasItsRamInTwoPieces) {
  GuestMemory memory = guest_memory(256 * kMiB);
  auto map = memory_map(memory);
  EXPECT_THAT(map, ::testing::Contains(MemoryMapEntry{0, 0x9fc00, MemoryType::ram}));
  EXPECT_THAT(map, ::testing::Contains(MemoryMapEntry{0x100000, 255_MiB, MemoryType::ram}));
  EXPECT_EQ(ram_in(map), 256_MiB - kReservedLow);
}

TEST(MemoryMapTest, RamAboveTheHoleIsToldFrom4GiBUp) {
  GuestMemory memory = guest_memory(5 * kGiB);
  auto map = memory_map(memory);
  EXPECT_THAT(map, ::testing::Contains(MemoryMapEntry{0x100000, 3_GiB - 1_MiB, MemoryType::ram}));
  EXPECT_THAT(map, ::testing::Contains(MemoryMapEntry{0x100000000, 2_GiB, MemoryType::ram}));
  EXPECT_EQ(ram_in(map), 5_GiB - kReservedLow);
}

TEST(MemoryMapTest, IsOrderedWithoutOverlapsForAnySize) {
  for (const std::uint64_t size : {2_MiB, 2_GiB, 3_GiB - kPageSize, 3_GiB, 3_GiB + kPageSize, 16_GiB}) {
    auto map = memory_map(guest_memory(Bytes{size}));
    EXPECT_EQ(ram_in(map), size - kReservedLow) << size;
    for (std::size_t i = 1; i < map.size(); ++i) {
      EXPECT_LE(map[i - 1].start + map[i - 1].size, map[i].start) << size;
    }
  }
}

TEST(MemoryMapTest, AcpiTablesAndKvmsPagesAreNotRam) {
  for (const MemoryMapEntry& entry : memory_map(guest_memory(4 * kGiB))) {
    if (entry.type != MemoryType::ram) continue;
    auto inside = [&](GuestAddress a) { return a >= entry.start && a - entry.start < entry.size; };
    EXPECT_FALSE(inside(layout::kAcpiTables) || inside(layout::kAcpiTablesEnd - 1));
    EXPECT_FALSE(inside(layout::kKvmTss) || inside(layout::kKvmIdentityMap) ||
                 inside(layout::kPciWindowStart));
  }
}

}  // namespace
}  // namespace balloon::vmm
