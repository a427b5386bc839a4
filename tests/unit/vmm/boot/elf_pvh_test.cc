// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_pvh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/boot/kernel_files.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/e820.h"
#include "vmm/boot/start_info.h"

namespace balloon::vmm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class ElfPvhTest : public ::testing::Test {
 protected:
  Result<BootEntry> load_bytes(std::span<const std::byte> bytes) {
    source.kernel = directory.file("vmlinux", bytes);
    return boot(memory, source);
  }
  Result<BootEntry> load() { return load_bytes(elf.bytes()); }
  /// The complaint about a good file spoiled by `spoil`.
  std::string error_after(const std::function<void(FakeElf&)>& spoil) {
    elf = FakeElf();
    spoil(elf);
    auto entry = load();
    return entry ? "no error" : entry.error().message;
  }
  StartInfo start_info() const { return *memory.read<StartInfo>(layout::kPvhStartInfo); }

  TempDir directory;
  FakeElf elf;
  BootSource source{.kernel = {}, .initrd = {}, .command_line = "console=ttyS0"};
  GuestMemory memory = guest_memory(64 * kMiB);
};

TEST_F(ElfPvhTest, EntersWhereTheNoteSaysWithTheStartInfo) {
  auto entry = load();
  ASSERT_TRUE(entry) << entry.error().message;
  EXPECT_EQ(entry->protocol, BootEntry::Protocol::pvh);
  EXPECT_EQ(entry->instruction, kFakeElfEntry);
  EXPECT_EQ(entry->parameters, layout::kPvhStartInfo);
}

TEST_F(ElfPvhTest, SegmentsAreAtTheirPhysicalAddressesWithTheRestZeroed) {
  ASSERT_TRUE(memory.write(0x1200000 + 0x8000, std::uint64_t{0xdead}));  // left by the guest before a reboot
  ASSERT_TRUE(load());
  EXPECT_EQ(guest_bytes(memory, 0x1000000, elf.code().bytes.size()), elf.code().bytes);
  EXPECT_EQ(guest_bytes(memory, 0x1200000, elf.data().bytes.size()), elf.data().bytes);
  EXPECT_EQ(memory.read<std::uint64_t>(0x1200000 + 0x8000), 0u);
}

TEST_F(ElfPvhTest, StartInfoTellsCommandLineTablesAndMemory) {
  ASSERT_TRUE(load());
  StartInfo info = start_info();
  EXPECT_EQ(info.magic, 0x336ec578u);
  EXPECT_EQ(info.version, 1u);
  EXPECT_EQ(info.flags, 0u);
  EXPECT_EQ(info.module_count, 0u);
  EXPECT_EQ(info.rsdp, layout::kAcpiTables);
  auto text = guest_bytes(memory, info.command_line, source.command_line.size() + 1);
  EXPECT_STREQ(reinterpret_cast<const char*>(text.data()), "console=ttyS0");
  auto map = memory_map(memory);
  ASSERT_EQ(info.memory_map_entries, map.size());
  for (std::size_t i = 0; i < map.size(); ++i) {
    auto entry = memory.read<StartInfoMemory>(info.memory_map + i * sizeof(StartInfoMemory));
    EXPECT_EQ(entry->address, map[i].start);
    EXPECT_EQ(entry->size, map[i].size);
    EXPECT_EQ(entry->type, static_cast<std::uint32_t>(map[i].type));
  }
}

TEST_F(ElfPvhTest, InitrdIsTheOnlyModule) {
  source.initrd = directory.file("initrd", std::string(5000, 'i'));
  ASSERT_TRUE(load());
  StartInfo info = start_info();
  ASSERT_EQ(info.module_count, 1u);
  auto module = memory.read<StartInfoModule>(info.modules);
  EXPECT_EQ(module->address, 64_MiB - 2 * kPageSize);
  EXPECT_EQ(module->size, 5000u);
  EXPECT_EQ(guest_bytes(memory, module->address, 5000), FileBytes(5000, std::byte{'i'}));
}

TEST_F(ElfPvhTest, BootStructuresDoNotOverlap) {
  GuestMemory large = guest_memory(8 * kGiB);
  EXPECT_LE(layout::kPvhStartInfo + sizeof(StartInfo), layout::kPvhModules);
  EXPECT_LE(layout::kPvhModules + sizeof(StartInfoModule), layout::kPvhMemoryMap);
  EXPECT_LE(layout::kPvhMemoryMap + memory_map(large).size() * sizeof(StartInfoMemory), layout::kZeroPage);
}

TEST_F(ElfPvhTest, CommandLineLongerThanLinuxTakesIsRefused) {
  source.command_line = std::string(2048, 'a');
  EXPECT_THAT(error_after([](FakeElf&) {}), HasSubstr("command line: too long"));
}

TEST_F(ElfPvhTest, ElfFilesThatAreNoKernelAreSaidToBeWhatTheyAre) {
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_machine = EM_AARCH64; }),
              HasSubstr("ELF file for arm64"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_ident[EI_CLASS] = ELFCLASS32; }),
              HasSubstr("32-bit ELF"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_ident[EI_DATA] = ELFDATA2MSB; }),
              HasSubstr("big-endian"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_type = ET_REL; }), HasSubstr("object file"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_type = ET_CORE; }), HasSubstr("core dump"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.note().header.p_type = PT_NULL; }),
              HasSubstr("without a PVH entry note"));
  EXPECT_THAT(error_after([](FakeElf& e) {
                e.segments.erase(e.segments.begin(), e.segments.begin() + 2);
                e.lay_out();
              }),
              HasSubstr("nothing to load"));
}

TEST_F(ElfPvhTest, TruncatedFileSaysWhichPart) {
  auto bytes = elf.bytes();
  auto cut_to = [&](std::size_t size) {
    auto entry = load_bytes(std::span(bytes).first(size));
    return entry ? "no error" : entry.error().message;
  };
  EXPECT_THAT(cut_to(40), AllOf(HasSubstr("truncated"), HasSubstr("ELF header"), HasSubstr("40 bytes")));
  EXPECT_THAT(cut_to(100), AllOf(HasSubstr("truncated"), HasSubstr("program headers")));
  EXPECT_THAT(cut_to(5000), AllOf(HasSubstr("truncated"), HasSubstr("segment 0")));
  EXPECT_THAT(cut_to(bytes.size() - 1), AllOf(HasSubstr("truncated"), HasSubstr("note segment")));
}

TEST_F(ElfPvhTest, HostileSegmentsAreRefused) {
  constexpr std::uint64_t kHuge = ~0ULL;
  EXPECT_THAT(error_after([](FakeElf& e) { e.code().header.p_offset = kHuge; }),
              HasSubstr("impossible place"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.code().header.p_offset = kHuge - 8191; }),
              HasSubstr("impossible place"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.code().header.p_filesz = kHuge; }), HasSubstr("in memory"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.data().header.p_memsz = kHuge; }),
              HasSubstr("beyond the address space"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.data().header.p_paddr = kHuge; }),
              HasSubstr("beyond the address space"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.data().header.p_memsz = 1; }), HasSubstr("in memory"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.data().header.p_paddr = 0x1001000; }), HasSubstr("overlap"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.data().header.p_paddr = 0x7000; }), HasSubstr("below 1 MiB"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.data().header.p_memsz = 1_GiB; }), HasSubstr("too large"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.data().header.p_paddr = 4_GiB; }), HasSubstr("too large"));
}

TEST_F(ElfPvhTest, HostileHeadersAreRefused) {
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_phoff = ~0ULL; }), HasSubstr("impossible place"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_phnum = 0; }), HasSubstr("0 program headers"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_phnum = 0xffff; }), HasSubstr("65535 program headers"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.header.e_phentsize = 1; }), HasSubstr("of 1 bytes"));
  EXPECT_THAT(error_after([](FakeElf& e) { e.note().header.p_filesz = ~0ULL; }),
              HasSubstr("impossible place"));
}

TEST_F(ElfPvhTest, EntryOutsideTheLoadedSegmentsIsRefused) {
  for (std::uint64_t entry : {0ULL, 0xfffULL, 0x1002000ULL, 0x1200000ULL + 0x8000, ~0ULL}) {
    EXPECT_THAT(error_after([&](FakeElf& e) {
                  e.note().bytes = elf_note("Xen", 18, bytes_of(entry));
                  e.note().header.p_filesz = e.note().bytes.size();
                  e.lay_out();
                }),
                HasSubstr("in no loaded segment"))
        << entry;
  }
}

TEST_F(ElfPvhTest, AnySpoiledHeaderIsLoadedInsideMemoryOrRefused) {
  std::mt19937 random(2);
  const auto good = elf.bytes();
  const std::size_t headers = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    auto bytes = good;
    for (int spoiled = 0; spoiled < 2; ++spoiled) {
      bytes[4 + random() % (headers - 4)] = static_cast<std::byte>(random() % 2 == 0 ? 0xff : random());
    }
    auto entry = load_bytes(bytes);
    refused += entry ? 0 : 1;
    if (entry) {
      EXPECT_TRUE(memory.at(entry->instruction, 1));
    }
  }
  EXPECT_GT(refused, 15);
}

}  // namespace
}  // namespace balloon::vmm
