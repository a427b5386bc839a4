// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_notes.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/unit/vmm/boot/kernel_files.h"

namespace balloon::vmm {
namespace {

TEST(ElfNotesTest, FindsTheEntryOfEitherWidth) {
  EXPECT_EQ(find_pvh_entry(elf_note("Xen", 18, bytes_of(std::uint64_t{0x1000040})), 4), 0x1000040u);
  EXPECT_EQ(find_pvh_entry(elf_note("Xen", 18, bytes_of(std::uint32_t{0x1000040})), 4), 0x1000040u);
}

TEST(ElfNotesTest, SkipsOtherNotesWithOddSizes) {
  FileBytes notes = elf_note("Linux", 0x100, FileBytes(5));
  for (const FileBytes& more :
       {elf_note("Xen", 6, FileBytes(3)), elf_note("Xen", 18, bytes_of(std::uint32_t{7}))}) {
    notes.insert(notes.end(), more.begin(), more.end());
  }
  EXPECT_EQ(find_pvh_entry(notes, 4), 7u);
}

TEST(ElfNotesTest, NotesAlignedTo8ArePaddedTo8) {
  // Name of 4 bytes: the description is at 16 either way; a description of 4 bytes moves the next note from
  // 20 to 24.
  FileBytes notes = elf_note("GNU", 5, FileBytes(4));
  notes.resize(24);
  FileBytes entry = elf_note("Xen", 18, bytes_of(std::uint64_t{9}));
  notes.insert(notes.end(), entry.begin(), entry.end());
  EXPECT_EQ(find_pvh_entry(notes, 8), 9u);
}

TEST(ElfNotesTest, AnotherNameTypeOrWidthIsNoEntry) {
  EXPECT_EQ(find_pvh_entry(elf_note("Xfn", 18, FileBytes(8)), 4), std::nullopt);
  EXPECT_EQ(find_pvh_entry(elf_note("Xen", 17, FileBytes(8)), 4), std::nullopt);
  EXPECT_EQ(find_pvh_entry(elf_note("Xen", 18, FileBytes(3)), 4), std::nullopt);
  EXPECT_EQ(find_pvh_entry({}, 4), std::nullopt);
}

TEST(ElfNotesTest, HostileSizesReadNothingOutside) {
  for (std::uint32_t size : {9U, 0x7fffffffU, 0xfffffffcU, 0xffffffffU}) {
    for (std::size_t field : {0U, 4U}) {
      FileBytes note = elf_note("Xen", 18, FileBytes(8));
      std::memcpy(note.data() + field, &size, sizeof size);
      EXPECT_EQ(find_pvh_entry(note, 4), std::nullopt) << size << " in field " << field;
    }
  }
}

TEST(ElfNotesTest, CutAnywhereIsNoEntry) {
  FileBytes note = elf_note("Xen", 18, FileBytes(8));
  for (std::size_t size = 0; size < note.size(); ++size) {
    FileBytes cut(note.begin(), note.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(find_pvh_entry(cut, 4), std::nullopt) << size;
  }
}

}  // namespace
}  // namespace balloon::vmm
