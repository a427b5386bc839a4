// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/bzimage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <random>
#include <string>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/boot/kernel_files.h"
#include "vmm/arch/x86_64/gdt.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/e820.h"
#include "vmm/boot/zero_page.h"

namespace balloon::vmm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BzImageTest : public ::testing::Test {
 protected:
  Result<BootEntry> load() { return load_bytes(image.bytes()); }
  Result<BootEntry> load_bytes(std::span<const std::byte> bytes) {
    source.kernel = directory.file("vmlinuz", bytes);
    return boot(memory, source);
  }
  std::string error() {
    auto entry = load();
    return entry ? "no error" : entry.error().message;
  }
  boot_params zero_page() const { return *memory.read<boot_params>(layout::kZeroPage); }

  TempDir directory;
  FakeBzImage image;
  BootSource source{.kernel = {}, .initrd = {}, .command_line = "console=ttyS0"};
  GuestMemory memory = guest_memory(64 * kMiB);
};

TEST_F(BzImageTest, EntersTheLoadedKernelInLongModeWithTheZeroPage) {
  auto entry = load();
  ASSERT_TRUE(entry) << entry.error().message;
  EXPECT_EQ(entry->protocol, BootEntry::Protocol::linux64);
  EXPECT_EQ(entry->instruction, 0x1000000u + 0x200);
  EXPECT_EQ(entry->parameters, layout::kZeroPage);
  auto loaded = guest_bytes(memory, 0x1000000, image.payload_size);
  for (std::size_t i = 0; i < loaded.size(); ++i) ASSERT_EQ(loaded[i], pattern(i)) << "payload byte " << i;
}

TEST_F(BzImageTest, KeepsTheKernelsOwnSetupHeaderAndFillsInTheLoadersFields) {
  ASSERT_TRUE(load());
  boot_params page = zero_page();
  EXPECT_EQ(+page.hdr.kernel_info_offset, 0x12345678u) << "the whole header is copied";
  EXPECT_EQ(+page.hdr.version, 0x20f);
  EXPECT_EQ(+page.hdr.type_of_loader, 0xff);
  EXPECT_EQ(page.hdr.loadflags & (LOADED_HIGH | CAN_USE_HEAP), LOADED_HIGH);
  EXPECT_EQ(+page.hdr.code32_start, 0x1000000u);
  EXPECT_EQ(+page.hdr.cmd_line_ptr, layout::kCommandLine);
  EXPECT_EQ(+page.hdr.ramdisk_size, 0u);
  EXPECT_EQ(+page.acpi_rsdp_addr, layout::kAcpiTables);
  EXPECT_EQ(+page.sentinel, 0) << "the kernel would distrust the page";
}

TEST_F(BzImageTest, HeaderBytesBeyondTheOnesWeKnowAreCopiedToo) {
  image.header.jump = 0x80eb;  // ends at 0x282
  auto bytes = image.bytes();
  bytes[0x27f] = std::byte{0x5a};
  ASSERT_TRUE(load_bytes(bytes));
  EXPECT_EQ(guest_bytes(memory, layout::kZeroPage + 0x27f, 1)[0], std::byte{0x5a});
}

TEST_F(BzImageTest, HeaderLongerThanTheZeroPagesRoomDoesNotSpillIntoOtherFields) {
  image.header.jump = 0xffeb;
  auto bytes = image.bytes();
  bytes[0x290] = std::byte{0x5a};  // edd_mbr_sig_buffer in the zero page
  ASSERT_TRUE(load_bytes(bytes));
  EXPECT_EQ(+zero_page().edd_mbr_sig_buffer[0], 0u);
}

TEST_F(BzImageTest, TheZeroPageHasTheMemoryMap) {
  ASSERT_TRUE(load());
  boot_params page = zero_page();
  auto map = memory_map(memory);
  ASSERT_EQ(+page.e820_entries, map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    EXPECT_EQ(+page.e820_table[i].addr, map[i].start);
    EXPECT_EQ(+page.e820_table[i].size, map[i].size);
    EXPECT_EQ(+page.e820_table[i].type, static_cast<std::uint32_t>(map[i].type));
  }
}

TEST_F(BzImageTest, TheCommandLineIsTerminated) {
  ASSERT_TRUE(load());
  auto bytes = guest_bytes(memory, layout::kCommandLine, source.command_line.size() + 1);
  EXPECT_STREQ(reinterpret_cast<const char*>(bytes.data()), "console=ttyS0");
}

TEST_F(BzImageTest, PageTablesMapEachAddressBelow4GiBToItself) {
  ASSERT_TRUE(load());
  for (GuestAddress address = 0; address < layout::kHighMemoryStart; address += 2_MiB) {
    auto pml4 = memory.read<std::uint64_t>(layout::kPageTables + (address >> 39) * 8);
    auto pdpt = memory.read<std::uint64_t>((*pml4 & ~0xfffULL) + (address >> 30 & 0x1ff) * 8);
    auto pd = memory.read<std::uint64_t>((*pdpt & ~0xfffULL) + (address >> 21 & 0x1ff) * 8);
    ASSERT_EQ(*pml4 & 0x83, 0x03u);
    ASSERT_EQ(*pdpt & 0x83, 0x03u);
    ASSERT_EQ(*pd, address | 0x83) << "present, writable, 2 MiB page";
  }
}

TEST_F(BzImageTest, TheGdtIsInGuestMemory) {
  ASSERT_TRUE(load());
  auto table = memory.read<std::array<std::uint64_t, 6>>(layout::kGdt);
  EXPECT_EQ(*table, gdt::kTable);
}

TEST_F(BzImageTest, InitrdLiesPageAlignedAtTheEndOfLowMemory) {
  std::string content(10'000, 'i');
  source.initrd = directory.file("initrd", content);
  ASSERT_TRUE(load());
  boot_params page = zero_page();
  EXPECT_EQ(+page.hdr.ramdisk_image, 64_MiB - 3 * kPageSize);
  EXPECT_EQ(+page.hdr.ramdisk_size, content.size());
  auto loaded = guest_bytes(memory, page.hdr.ramdisk_image, content.size());
  EXPECT_EQ(std::memcmp(loaded.data(), content.data(), content.size()), 0);
}

TEST_F(BzImageTest, InitrdStaysBelowTheHighestAddressThatTheKernelAllows) {
  source.initrd = directory.file("initrd", std::string(8192, 'i'));
  image.header.initrd_addr_max = 0x2ffffff;
  ASSERT_TRUE(load());
  EXPECT_EQ(+zero_page().hdr.ramdisk_image, 0x3000000u - 8192);
}

TEST_F(BzImageTest, InitrdStaysBelowTheHoleInALargeGuest) {
  GuestMemory large = guest_memory(4 * kGiB);
  source.initrd = directory.file("initrd", std::string(8192, 'i'));
  image.header.initrd_addr_max = 0xffffffff;
  source.kernel = directory.file("vmlinuz", image.bytes());
  auto entry = boot(large, source);
  ASSERT_TRUE(entry) << entry.error().message;
  EXPECT_EQ(+large.read<boot_params>(layout::kZeroPage)->hdr.ramdisk_image, layout::kPciHoleStart - 8192);
}

TEST_F(BzImageTest, InitrdThatWouldReachIntoTheKernelsWorkingMemoryIsRefused) {
  source.initrd = directory.file("initrd", std::string(8192, 'i'));
  image.header.init_size = static_cast<std::uint32_t>(64_MiB - 0x1000000 - 4096);
  EXPECT_THAT(error(), AllOf(HasSubstr("initrd"), HasSubstr("too large"), HasSubstr("8192 bytes")));
}

TEST_F(BzImageTest, InitrdAbsentEmptyOrADirectoryIsNamed) {
  source.initrd = directory.path() + "/no-such-initrd";
  EXPECT_THAT(error(), AllOf(HasSubstr("no-such-initrd"), HasSubstr("No such file")));
  source.initrd = directory.file("empty-initrd", "");
  EXPECT_THAT(error(), AllOf(HasSubstr("empty-initrd"), HasSubstr("the file is empty")));
  source.initrd = directory.path();
  EXPECT_THAT(error(), AllOf(HasSubstr("initrd"), HasSubstr("is a directory")));
}

TEST_F(BzImageTest, RelocatableKernelIsLoadedAtItsAlignment) {
  image.header.pref_address = 0x1000001;
  auto entry = load();
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->instruction, 0x1200000u + 0x200);
}

TEST_F(BzImageTest, ZeroSetupSectorsMeanFour) {
  image.header.setup_sects = 4;
  auto bytes = image.bytes();
  bytes[0x1f1] = std::byte{0};
  ASSERT_TRUE(load_bytes(bytes));
  EXPECT_EQ(guest_bytes(memory, 0x1000000, 2), (FileBytes{pattern(0), pattern(1)}));
}

TEST_F(BzImageTest, SignatureAfterTheKernelIsNotLoaded) {
  auto bytes = image.bytes();
  bytes.resize(bytes.size() + 1000, std::byte{0xee});
  ASSERT_TRUE(load_bytes(bytes));
  EXPECT_EQ(guest_bytes(memory, 0x1000000 + image.payload_size, 1)[0], std::byte{0});
}

TEST_F(BzImageTest, TruncatedFileSaysWhichPartAndBothSizes) {
  auto bytes = image.bytes();
  const std::size_t whole = bytes.size();
  bytes.pop_back();
  auto entry = load_bytes(bytes);
  ASSERT_FALSE(entry);
  EXPECT_THAT(entry.error().message,
              AllOf(HasSubstr("truncated"), HasSubstr("protected-mode kernel"),
                    HasSubstr(std::to_string(whole)), HasSubstr(std::to_string(whole - 1))));
  bytes.resize(0x210);
  entry = load_bytes(bytes);
  ASSERT_FALSE(entry);
  EXPECT_THAT(entry.error().message, AllOf(HasSubstr("truncated"), HasSubstr("setup header")));
}

TEST_F(BzImageTest, UnfitKernelsAreRefusedWithTheReason) {
  image.header.version = 0x20b;
  EXPECT_THAT(error(), HasSubstr("boot protocol 2.11 is too old"));
  image = FakeBzImage();
  image.header.xloadflags = 0;
  EXPECT_THAT(error(), HasSubstr("32-bit kernel"));
  image = FakeBzImage();
  image.header.loadflags = 0;
  EXPECT_THAT(error(), HasSubstr("zImage"));
}

TEST_F(BzImageTest, KernelThatNeedsMoreMemoryThanTheGuestHasIsRefused) {
  image.header.init_size = 60_MiB;
  EXPECT_THAT(error(), AllOf(HasSubstr("too large for the guest's memory"), HasSubstr("0x4000000")));
}

TEST_F(BzImageTest, HostileHeaderWithAnAddressThatWouldWrapIsRefused) {
  for (std::uint64_t address : {~0ULL, ~0ULL - 0xfff, 0xffffffffffe00000ULL, 1ULL << 63, 0x100000000ULL}) {
    for (std::uint8_t relocatable : {std::uint8_t{0}, std::uint8_t{1}}) {
      image.header.pref_address = address;
      image.header.relocatable_kernel = relocatable;
      EXPECT_THAT(error(), ::testing::AnyOf(HasSubstr("too large"), HasSubstr("bad setup header")))
          << address;
    }
  }
}

TEST_F(BzImageTest, HostileHeaderWithAnImpossibleAlignmentIsRefused) {
  for (std::uint32_t alignment : {0U, 3U, 0x200001U, 0xffffffffU}) {
    image.header.kernel_alignment = alignment;
    EXPECT_THAT(error(), HasSubstr("kernel_alignment")) << alignment;
  }
  image.header.kernel_alignment = 0x80000000;
  EXPECT_THAT(error(), HasSubstr("too large"));
}

TEST_F(BzImageTest, HostileHeaderWithSizesBeyondTheFileIsRefused) {
  image.header.syssize = 0xffffffff;
  EXPECT_THAT(error(), HasSubstr("truncated"));
  image = FakeBzImage();
  image.header.syssize = 0;
  EXPECT_THAT(error(), HasSubstr("syssize"));
  image = FakeBzImage();
  image.header.init_size = 0xffffffff;
  EXPECT_THAT(error(), HasSubstr("too large"));
  auto bytes = FakeBzImage().bytes();
  bytes[0x1f1] = std::byte{0xff};  // setup_sects
  auto entry = load_bytes(bytes);
  ASSERT_FALSE(entry);
  EXPECT_THAT(entry.error().message, HasSubstr("truncated"));
}

TEST_F(BzImageTest, HostileHeaderThatEndsTooEarlyOrHasNoJumpIsRefused) {
  image.header.jump = 0x10eb;
  EXPECT_THAT(error(), HasSubstr("bad setup header: its jump"));
  image.header.jump = 0x6ae9;
  EXPECT_THAT(error(), HasSubstr("bad setup header: its jump"));
}

TEST_F(BzImageTest, FixedKernelBelow1MiBWouldOverwriteTheBootStructures) {
  image.header.relocatable_kernel = 0;
  image.header.pref_address = 0x7000;
  EXPECT_THAT(error(), HasSubstr("below 1 MiB"));
}

TEST_F(BzImageTest, AnySpoiledHeaderIsLoadedInsideMemoryOrRefused) {
  std::mt19937 random(1);
  const auto good = image.bytes();
  source.initrd = directory.file("initrd", std::string(5000, 'i'));
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    auto bytes = good;
    for (int spoiled = 0; spoiled < 3; ++spoiled) {
      bytes[0x1f1 + random() % sizeof(setup_header)] =
          static_cast<std::byte>(random() % 2 == 0 ? 0xff : random());
    }
    auto entry = load_bytes(bytes);
    if (!entry) {
      ++refused;
      EXPECT_THAT(entry.error().message, HasSubstr(directory.path()));
      continue;
    }
    EXPECT_TRUE(memory.at(entry->instruction, 1));
    EXPECT_LE(zero_page().hdr.ramdisk_image + std::uint64_t{zero_page().hdr.ramdisk_size}, 64_MiB);
  }
  EXPECT_GT(refused, 15);
}

TEST_F(BzImageTest, WhatIsNoKernelIsSaidToBeWhatItLooksLike) {
  auto complaint = [&](std::string_view content) {
    source.kernel = directory.file("not-a-kernel", content);
    auto entry = boot(memory, source);
    return entry ? "no error" : entry.error().message;
  };
  EXPECT_THAT(complaint("root=/dev/vda\n"), AllOf(HasSubstr("not-a-kernel"), HasSubstr("looks like text")));
  EXPECT_THAT(complaint("\x1f\x8b\x08 and so on"), HasSubstr("looks like a gzip file"));
  EXPECT_THAT(complaint("x"), HasSubstr("looks like text"));
  EXPECT_THAT(complaint(""), HasSubstr("the file is empty"));
}

TEST_F(BzImageTest, KernelThatIsAbsentADirectoryOrAFifoIsRefusedAtOnce) {
  source.kernel = directory.path() + "/absent";
  EXPECT_THAT(boot(memory, source).error().message, AllOf(HasSubstr("absent"), HasSubstr("No such file")));
  source.kernel = directory.path();
  EXPECT_THAT(boot(memory, source).error().message, HasSubstr("is a directory"));
  source.kernel = directory.path() + "/fifo";
  ASSERT_EQ(::mkfifo(source.kernel.c_str(), 0600), 0);
  EXPECT_THAT(boot(memory, source).error().message, HasSubstr("is not a regular file"));
  source.kernel = "";
  EXPECT_THAT(boot(memory, source).error().message, HasSubstr("no path"));
}

}  // namespace
}  // namespace balloon::vmm
