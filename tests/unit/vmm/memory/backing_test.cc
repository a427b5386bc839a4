// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/backing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/memory/lent_pool.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/mapping.h"

namespace balloon::vmm {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

GuestMemory make(Bytes size, const MemoryBacking& backing) {
  auto memory = GuestMemory::create(size, backing);
  if (!memory) throw std::runtime_error(memory.error().message);
  return std::move(*memory);
}

/// The VmFlags line of the mapping at `address` in /proc/self/smaps.
std::string mapping_flags(const GuestMemory& memory) {
  std::ostringstream start;
  start << std::hex << reinterpret_cast<std::uintptr_t>(memory.regions()[0].host.data()) << '-';
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  while (std::getline(smaps, line) && !line.starts_with(start.str())) {
  }
  while (std::getline(smaps, line) && !line.starts_with("VmFlags:")) {
  }
  return line;
}

TEST(MemoryBacking, PreallocatedMemoryIsAllThere) {
  const GuestMemory memory = make(200 * kMiB, {.preallocate = true});
  EXPECT_EQ(resident_bytes(memory.regions()[0].host), 200 * kMiB);
}

TEST(MemoryBacking, UnlessAskedForNothingIsThereReservedLockedOrMerged) {
  const GuestMemory memory = make(64 * kMiB, {});
  EXPECT_EQ(resident_bytes(memory.regions()[0].host), Bytes{0});
  EXPECT_THAT(mapping_flags(memory), AllOf(HasSubstr(" nr"), Not(HasSubstr(" lo")), Not(HasSubstr(" mg"))));
}

TEST(MemoryBacking, ReservedMemoryIsCounted) {
  EXPECT_THAT(mapping_flags(make(8 * kMiB, {.reserve = true})), Not(HasSubstr(" nr")));
}

TEST(MemoryBacking, LockedMemoryIsLockedAsItComesAndReleasedNevertheless) {
  const GuestMemory memory = make(4 * kMiB, {.huge_pages = HugePages::off, .lock = true});
  EXPECT_THAT(mapping_flags(memory), HasSubstr(" lo"));
  EXPECT_EQ(resident_bytes(memory.regions()[0].host), Bytes{0});
  std::memset(memory.at(0, 1_MiB)->data(), 1, 1_MiB);
  EXPECT_EQ(memory.release({0, 1_MiB})->freed, kMiB);
  EXPECT_EQ(resident_bytes(memory.regions()[0].host), Bytes{0});
}

TEST(MemoryBacking, MergingCanBeSwitchedWhileTheGuestRuns) {
  GuestMemory memory = make(8 * kMiB, {.merge = true});
  EXPECT_THAT(mapping_flags(memory), HasSubstr(" mg"));
  ASSERT_TRUE(memory.set_merging(false));
  EXPECT_THAT(mapping_flags(memory), Not(HasSubstr(" mg")));
  EXPECT_FALSE(memory.backing().merge);
  ASSERT_TRUE(memory.set_merging(true));
  EXPECT_THAT(mapping_flags(memory), HasSubstr(" mg"));
  GuestMemory shared = make(8 * kMiB, {.shared = true});
  const auto refused = shared.set_merging(true);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("private"));
}

TEST(MemoryBacking, SmallPagesStaySmall) {
  const GuestMemory memory = make(8 * kMiB, {.huge_pages = HugePages::off});
  ASSERT_TRUE(memory.write<std::uint8_t>(0, 1));
  EXPECT_EQ(resident_bytes(memory.regions()[0].host), balloon::kPageSize);
}

TEST(MemoryBacking, SharedMemoryIsAFileThatNobodyCanShorten) {
  const GuestMemory memory = make(3 * kGiB + 4 * kMiB, {.shared = true});
  ASSERT_EQ(memory.regions().size(), 2U);
  for (const GuestMemory::Region& region : memory.regions()) {
    struct stat file;
    ASSERT_EQ(::fstat(region.file.get(), &file), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(file.st_size), region.host.size());
    EXPECT_NE(::ftruncate(region.file.get(), 0), 0);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(region.host.data()) % kHugePageSize, 0U);
    ASSERT_TRUE(memory.write<std::uint32_t>(region.start + 8, 0x1234));
    std::uint32_t seen = 0;
    ASSERT_EQ(::pread(region.file.get(), &seen, sizeof seen, 8), 4);
    EXPECT_EQ(seen, 0x1234U);
  }
}

TEST(MemoryBacking, WithoutTheRightToLockTheErrorSaysWhatToRaise) {
  const auto try_it = [] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_MEMLOCK, &none);
    if (::setuid(65534) != 0) ::_exit(1);
    const auto memory = GuestMemory::create(8 * kMiB, {.lock = true});
    ::_exit(!memory && memory.error().message.find("RLIMIT_MEMLOCK") != std::string::npos ? 77 : 2);
  };
  // In a child: the right cannot be had back.
  EXPECT_EXIT(try_it(), ::testing::ExitedWithCode(77), "");
}

TEST(MemoryBacking, AnEmptyPoolIsAnErrorThatSaysWhereToLook) {
  const test::LentPool nothing(0);
  const auto memory = GuestMemory::create(kGiB, {.huge_pages = HugePages::two_mib});
  ASSERT_FALSE(memory);
  EXPECT_THAT(memory.error().message, AllOf(HasSubstr("pool of 2 MiB pages"), HasSubstr("nr_hugepages")));
  const auto huge = GuestMemory::create(64 * kGiB, {.huge_pages = HugePages::one_gib});
  ASSERT_FALSE(huge);
  EXPECT_THAT(huge.error().message,
              AnyOf(HasSubstr("pool of 1 GiB pages"), HasSubstr("file of guest memory")));
}

TEST(MemoryBacking, APoolsPagesComeAndGoWhole) {
  const test::LentPool pool(8);
  const GuestMemory memory = make(16 * kMiB, {.huge_pages = HugePages::two_mib});
  EXPECT_THAT(mapping_flags(memory), HasSubstr(" ht"));
  std::memset(memory.at(0, 8_MiB)->data(), 0x5a, 8_MiB);
  EXPECT_EQ(memory.release({1_MiB, 4_MiB}),
            (GuestMemory::Released{.ram = 4 * kMiB, .released = 2 * kMiB, .freed = 2 * kMiB}));
  EXPECT_EQ(memory.read<std::uint8_t>(2_MiB - 1), 0x5a);
  EXPECT_EQ(memory.read<std::uint8_t>(4_MiB), 0x5a);
  EXPECT_EQ(memory.release({1_MiB, 1_MiB})->released, Bytes{0});
  ASSERT_TRUE(memory.take_back({2_MiB, kPageSize}));
  EXPECT_EQ(memory.read<std::uint8_t>(2_MiB), 0U);
}

TEST(MemoryBacking, OfAPoolAsManyPagesAreTakenBackAsARangeTouches) {
  const test::LentPool pool(8);
  const GuestMemory memory = make(16 * kMiB, {.huge_pages = HugePages::two_mib});
  ASSERT_TRUE(memory.release({0, 16_MiB}));
  const auto taken = [&memory] {
    struct stat file{};
    EXPECT_EQ(::fstat(memory.regions()[0].file.get(), &file), 0);
    return static_cast<Bytes>(file.st_blocks) * 512;
  };
  EXPECT_EQ(taken(), Bytes{0});
  ASSERT_TRUE(memory.take_back({2_MiB, 2_MiB}));
  EXPECT_EQ(taken(), 2 * kMiB);
  ASSERT_TRUE(memory.take_back({8_MiB - kPageSize, 2 * kPageSize}));
  EXPECT_EQ(taken(), 6 * kMiB);
  EXPECT_TRUE(make(8 * kMiB, {}).take_back({0, 1_MiB})) << "nothing has to be taken but from a pool";
}

TEST(MemoryBacking, PageSizesAreReadAsTheyAreWritten) {
  EXPECT_EQ(parse_huge_pages("off"), HugePages::off);
  EXPECT_EQ(parse_huge_pages("transparent"), HugePages::transparent);
  for (const char* text : {"2M", "2MiB"}) EXPECT_EQ(parse_huge_pages(text), HugePages::two_mib) << text;
  for (const char* text : {"1G", "1GiB"}) EXPECT_EQ(parse_huge_pages(text), HugePages::one_gib) << text;
  for (const char* text : {"", "on", "4KiB", "2mib", "2 MiB"}) EXPECT_FALSE(parse_huge_pages(text)) << text;
}

TEST(MemoryBacking, EachKindHasItsPages) {
  EXPECT_EQ(page_size(HugePages::off), 4 * kKiB);
  EXPECT_EQ(page_size(HugePages::transparent), 4 * kKiB);
  EXPECT_EQ(page_size(HugePages::two_mib), 2 * kMiB);
  EXPECT_EQ(page_size(HugePages::one_gib), kGiB);
  EXPECT_FALSE(from_pool(HugePages::off));
  EXPECT_FALSE(from_pool(HugePages::transparent));
  EXPECT_TRUE(from_pool(HugePages::two_mib));
  EXPECT_TRUE(from_pool(HugePages::one_gib));
}

TEST(MemoryBacking, WhatDoesNotGoTogetherIsRefusedAndNothingElse) {
  const auto goes = [](const MemoryBacking& backing) { return check_backing(backing, kGiB).has_value(); };
  EXPECT_TRUE(goes({}));
  EXPECT_TRUE(goes({.merge = true}));
  EXPECT_TRUE(goes({.lock = true}));
  EXPECT_TRUE(goes({.shared = true}));
  EXPECT_TRUE(goes({.reserve = true}));
  EXPECT_TRUE(goes({.huge_pages = HugePages::one_gib, .shared = true, .lock = true}));
  EXPECT_FALSE(goes({.shared = true, .merge = true}));
  EXPECT_FALSE(goes({.huge_pages = HugePages::two_mib, .merge = true}));
  EXPECT_FALSE(goes({.merge = true, .lock = true}));
  EXPECT_FALSE(goes({.shared = true, .reserve = true}));
  EXPECT_TRUE(goes({.shared = true, .reserve = true, .preallocate = true}));
  EXPECT_FALSE(check_backing({.huge_pages = HugePages::two_mib}, 3 * kMiB));
  EXPECT_FALSE(check_backing({.huge_pages = HugePages::one_gib}, kGiB + 2 * kMiB));
}

}  // namespace
}  // namespace balloon::vmm
