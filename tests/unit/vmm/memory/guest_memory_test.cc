// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "tests/unit/vmm/address_literals.h"

namespace balloon::vmm {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kHugePages = 512;  ///< pages of 4 KiB in a huge one

GuestMemory make(Bytes size) {
  auto memory = GuestMemory::create(size);
  if (!memory) throw std::runtime_error(memory.error().message);
  return std::move(*memory);
}

std::size_t resident_pages(const GuestMemory& memory, GuestAddress start, std::uint64_t size) {
  std::vector<unsigned char> pages(size / kPageSize);
  ::mincore(memory.at(start, size)->data(), size, pages.data());
  return static_cast<std::size_t>(
      std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
}

/// The VmFlags line of the mapping at `address` in /proc/self/smaps.
std::string mapping_flags(const void* address) {
  std::ostringstream start;
  start << std::hex << reinterpret_cast<std::uintptr_t>(address) << '-';
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  while (std::getline(smaps, line) && !line.starts_with(start.str())) {
  }
  while (std::getline(smaps, line) && !line.starts_with("VmFlags:")) {
  }
  return line;
}

TEST(GuestMemory, RefusesSizesThatCannotBe) {
  for (const Bytes size :
       {Bytes{0}, Bytes{4096}, kMiB - Bytes{4096}, kMiB + Bytes{1}, kMiB + Bytes{512}, Bytes::max()}) {
    EXPECT_FALSE(GuestMemory::create(size)) << format_bytes(size);
  }
}

TEST(GuestMemory, AHostWithoutSuchAddressSpaceIsAnErrorNotACrash) {
  const auto memory = GuestMemory::create(1024 * 1024 * kTiB);
  ASSERT_FALSE(memory);
  EXPECT_THAT(memory.error().message, HasSubstr("guest memory"));
}

TEST(GuestMemory, UpToThreeGigabytesLieBelowThePciHole) {
  const GuestMemory memory = make(3 * kGiB);
  ASSERT_EQ(memory.regions().size(), 1U);
  EXPECT_EQ(memory.regions()[0].start, 0U);
  EXPECT_EQ(memory.regions()[0].host.size(), 3_GiB);
}

TEST(GuestMemory, MoreThanThreeGigabytesGoOnAtFour) {
  const GuestMemory memory = make(3 * kGiB + 2 * kMiB);
  ASSERT_EQ(memory.regions().size(), 2U);
  EXPECT_EQ(memory.regions()[1].start, 4_GiB);
  EXPECT_EQ(memory.regions()[1].host.size(), 2_MiB);
  EXPECT_EQ(memory.size(), 3 * kGiB + 2 * kMiB);
}

TEST(GuestMemory, NothingIsResidentUntilTouched) {
  const GuestMemory memory = make(64 * kMiB);
  EXPECT_EQ(resident_pages(memory, 0, 64_MiB), 0U);
  ASSERT_TRUE(memory.write<std::uint8_t>(5 * kPageSize, 1));
  EXPECT_GE(resident_pages(memory, 0, 64_MiB), 1U);
  EXPECT_LE(resident_pages(memory, 0, 64_MiB), kHugePages) << "one page, or the huge page around it";
}

TEST(GuestMemory, HugePagesStartWhereTheGuestSeesThemStart) {  // else KVM cannot map them
  const GuestMemory memory = make(3 * kGiB + 4 * kMiB);
  for (const GuestMemory::Region& region : memory.regions()) {
    const auto host = reinterpret_cast<std::uintptr_t>(region.host.data());
    EXPECT_EQ(host % (kHugePages * kPageSize), region.start % (kHugePages * kPageSize));
  }
}

TEST(GuestMemory, IsUnreservedInHugePagesAndNeverDumped) {
  const GuestMemory memory = make(8 * kMiB);
  const std::string flags = mapping_flags(memory.regions()[0].host.data());
  EXPECT_THAT(flags, HasSubstr(" nr"));  // no reserve
  EXPECT_THAT(flags, HasSubstr(" dd"));  // not in a core dump
  // A kernel without transparent huge pages has no such flag.
  if (std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) {
    EXPECT_THAT(flags, HasSubstr(" hg"));
  }
}

TEST(GuestMemory, ReadsWhatWasWritten) {
  const GuestMemory memory = make(kMiB);
  EXPECT_TRUE(memory.write<std::uint64_t>(1_MiB - 8, 0x0123456789abcdef));
  EXPECT_EQ(memory.read<std::uint64_t>(1_MiB - 8), 0x0123456789abcdefU);
  EXPECT_EQ(memory.read<std::uint32_t>(1_MiB - 4), 0x01234567U);
}

TEST(GuestMemory, NoAccessLeavesRam) {
  const GuestMemory memory = make(kMiB);
  struct Case {
    GuestAddress address;
    std::uint64_t size;
    bool inside;
  };
  for (const Case& c :
       {Case{0, 1_MiB, true}, Case{0, 1_MiB + 1, false}, Case{1_MiB - 1, 1, true}, Case{1_MiB - 1, 2, false},
        Case{1_MiB, 0, true}, Case{1_MiB, 1, false}, Case{1_MiB + 1, 0, false}, Case{~0ULL, 1, false},
        Case{~0ULL, 2, false}, Case{~0ULL - 7, 16, false}, Case{1, ~0ULL, false},
        Case{kPageSize, ~0ULL - kPageSize + 1, false}}) {
    EXPECT_EQ(memory.at(c.address, c.size).has_value(), c.inside) << c.address << " " << c.size;
  }
  std::byte bytes[16];
  EXPECT_FALSE(memory.read(1_MiB - 8, bytes));
  EXPECT_FALSE(memory.write(1_MiB - 8, bytes));
  EXPECT_FALSE(memory.read<std::uint64_t>(~0ULL - 3));
}

TEST(GuestMemory, NoAccessSpansThePciHole) {
  const GuestMemory memory = make(4 * kGiB);
  EXPECT_FALSE(memory.at(3_GiB - 1, 2));
  EXPECT_FALSE(memory.at(3_GiB, 1));
  EXPECT_FALSE(memory.at(4_GiB - 1, 1));
  EXPECT_FALSE(memory.at(3_GiB - kPageSize, 1_GiB + 2 * kPageSize));
  EXPECT_TRUE(memory.at(4_GiB, 1_GiB));
  EXPECT_FALSE(memory.at(4_GiB, 1_GiB + 1));
}

TEST(GuestMemory, ReleasedPagesLeaveTheHostAndReadAsZeros) {
  const GuestMemory memory = make(kMiB);
  std::ranges::fill(*memory.at(0, 1_MiB), std::byte{0x5a});
  const auto released = memory.release({4 * kPageSize, 8 * kPageSize});
  EXPECT_EQ(released,
            (GuestMemory::Released{8 * balloon::kPageSize, 8 * balloon::kPageSize, 8 * balloon::kPageSize}));
  EXPECT_EQ(resident_pages(memory, 0, 1_MiB), 1_MiB / kPageSize - 8);
  EXPECT_EQ(memory.read<std::uint8_t>(4 * kPageSize - 1), 0x5a);
  EXPECT_EQ(memory.read<std::uint8_t>(4 * kPageSize), 0);
  EXPECT_EQ(memory.read<std::uint8_t>(12 * kPageSize - 1), 0);
  EXPECT_EQ(memory.read<std::uint8_t>(12 * kPageSize), 0x5a);
}

/// A counter of /proc/vmstat.
std::uint64_t vmstat(const std::string& name) {
  std::ifstream file("/proc/vmstat");
  std::string key;
  std::uint64_t value = 0;
  while (file >> key >> value) {
    if (key == name) return value;
  }
  throw std::runtime_error("/proc/vmstat has no " + name);
}

TEST(GuestMemory, ReleasingAPartOfAHugePageSplitsItSoThatTheHostHasThePartAtOnce) {
  auto memory = GuestMemory::create(8 * kMiB);
  ASSERT_TRUE(memory);
  const std::uint64_t huge_before = vmstat("thp_fault_alloc");
  std::memset(memory->at(2_MiB, 2_MiB)->data(), 0xa5, 2_MiB);
  ASSERT_GT(vmstat("thp_fault_alloc"), huge_before)
      << "this host gives no huge pages to madvise(MADV_HUGEPAGE)";
  const std::uint64_t split_before = vmstat("thp_split_page");
  ASSERT_TRUE(memory->release({3_MiB, 1_MiB}));
  EXPECT_GT(vmstat("thp_split_page"), split_before);
  EXPECT_EQ(memory->read<std::uint8_t>(3_MiB - 1), 0xa5);
  EXPECT_EQ(memory->read<std::uint8_t>(3_MiB), 0);
}

TEST(GuestMemory, AHugePageThatWasTakenApartIsOneAgainOnceItIsJoined) {
  auto memory = GuestMemory::create(8 * kMiB);
  ASSERT_TRUE(memory);
  std::memset(memory->at(2_MiB, 2_MiB)->data(), 0xa5, 2_MiB);
  ASSERT_TRUE(memory->release({3_MiB, 1_MiB}));
  ASSERT_EQ(resident_pages(*memory, 2_MiB, 2_MiB), kHugePages / 2);
  memory->join_huge_page(2_MiB);
  EXPECT_EQ(resident_pages(*memory, 2_MiB, 2_MiB), kHugePages) << "needs Linux 6.1 (MADV_COLLAPSE)";
  EXPECT_EQ(memory->read<std::uint8_t>(3_MiB - 1), 0xa5);
  EXPECT_EQ(memory->read<std::uint8_t>(3_MiB), 0);
  memory->join_huge_page(1_GiB);  // outside its RAM
}

TEST(GuestMemory, AReleaseIsClippedToRam) {
  const GuestMemory memory = make(3 * kGiB + kMiB);
  const auto ram = [&](GuestRange range) { return memory.release(range)->ram.count(); };
  EXPECT_EQ(ram({3_GiB - kPageSize, 2_GiB}), kPageSize + 1_MiB);
  EXPECT_EQ(ram({3_GiB, 1_GiB}), 0U) << "the hole";
  EXPECT_EQ(ram({1_GiB * 100, kPageSize}), 0U);
  EXPECT_EQ(ram({0, 0}), 0U);
  EXPECT_EQ(ram({~0ULL - 2 * kPageSize + 1, kPageSize}), 0U);
}

TEST(GuestMemory, AReleaseOfPartsOfPagesOrOneThatWrapsIsRefused) {
  const GuestMemory memory = make(kMiB);
  for (const GuestRange range :
       {GuestRange{1, kPageSize}, GuestRange{0, 100}, GuestRange{~0ULL - kPageSize + 1, 2 * kPageSize},
        GuestRange{kPageSize, ~0ULL - kPageSize + 1}}) {
    EXPECT_FALSE(memory.release(range)) << range.start;
  }
}

TEST(GuestMemory, MovesWithItsContent) {
  GuestMemory first = make(kMiB);
  ASSERT_TRUE(first.write<std::uint32_t>(0, 7));
  const auto host = first.at(0, 4);
  const GuestMemory second = std::move(first);
  EXPECT_EQ(second.read<std::uint32_t>(0), 7U);
  EXPECT_EQ(second.at(0, 4)->data(), host->data()) << "the host address stays, so that queues may keep it";
}

}  // namespace
}  // namespace balloon::vmm
