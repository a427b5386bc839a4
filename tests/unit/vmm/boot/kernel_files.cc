// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vmm/boot/kernel_files.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace balloon::vmm {

TempDir::TempDir() {
  std::string name = std::filesystem::temp_directory_path() / "balloon-boot-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::file(std::string_view name, std::span<const std::byte> bytes) const {
  return file(name, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::string TempDir::file(std::string_view name, std::string_view text) const {
  std::string path = path_ + "/" + std::string(name);
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
  return path;
}

// What Debian's 6.1 kernel has in these fields, but for the sizes.
FakeBzImage::FakeBzImage(std::size_t payload) : payload_size(payload) {
  std::memset(&header, 0, sizeof header);
  header.setup_sects = 1;
  header.syssize = static_cast<std::uint32_t>(payload / 16);
  header.boot_flag = 0xaa55;
  header.jump = 0x6aeb;  // the header ends at 0x26c
  header.header = 0x53726448;
  header.version = 0x20f;
  header.vid_mode = 0xffff;
  header.loadflags = LOADED_HIGH | CAN_USE_HEAP;
  header.code32_start = 0x100000;
  header.initrd_addr_max = 0x7fffffff;
  header.kernel_alignment = 0x200000;
  header.relocatable_kernel = 1;
  header.min_alignment = 21;
  header.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
  header.cmdline_size = 2047;
  header.pref_address = 0x1000000;
  header.init_size = 0x300000;
  header.kernel_info_offset = 0x12345678;
}

FileBytes FakeBzImage::bytes() const {
  FileBytes file(payload_offset() + payload_size);
  std::memcpy(file.data() + 0x1f1, &header, sizeof header);
  for (std::size_t i = 0; i < payload_size; ++i) file[payload_offset() + i] = pattern(i);
  return file;
}

FakeElf::FakeElf() : header{} {
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_phoff = sizeof header;
  header.e_ehsize = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);

  auto segment = [](std::uint32_t type, GuestAddress address, std::uint64_t memory_size, FileBytes bytes) {
    FakeSegment made{};
    made.header.p_type = type;
    made.header.p_paddr = address;
    made.header.p_memsz = memory_size;
    made.header.p_filesz = bytes.size();
    made.header.p_align = 4;
    made.bytes = std::move(bytes);
    return made;
  };
  FileBytes content(8192);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = pattern(i);
  segments.push_back(segment(PT_LOAD, 0x1000000, content.size(), content));
  segments.push_back(segment(PT_LOAD, 0x1200000, 0x10000, content));
  FileBytes notes = elf_note("GNU", 3, bytes_of(std::uint64_t{0x1122334455667788}));
  FileBytes entry = elf_note("Xen", 18, bytes_of(std::uint64_t{kFakeElfEntry}));
  notes.insert(notes.end(), entry.begin(), entry.end());
  segments.push_back(segment(PT_NOTE, 0x1001000, notes.size(), notes));
  lay_out();
}

void FakeElf::lay_out() {
  header.e_phnum = static_cast<std::uint16_t>(segments.size());
  std::uint64_t offset = header.e_phoff + segments.size() * sizeof(Elf64_Phdr);
  for (FakeSegment& segment : segments) {
    segment.header.p_offset = offset;
    offset += segment.bytes.size();
  }
}

FileBytes FakeElf::bytes() const {
  FileBytes file = bytes_of(header);
  for (const FakeSegment& segment : segments)
    std::ranges::copy(bytes_of(segment.header), std::back_inserter(file));
  for (const FakeSegment& segment : segments) std::ranges::copy(segment.bytes, std::back_inserter(file));
  return file;
}

FileBytes elf_note(std::string_view name, std::uint32_t type, std::span<const std::byte> description) {
  Elf64_Nhdr header{static_cast<Elf64_Word>(name.size() + 1), static_cast<Elf64_Word>(description.size()),
                    type};
  FileBytes note = bytes_of(header);
  for (char c : name) note.push_back(static_cast<std::byte>(c));
  note.push_back(std::byte{0});
  note.resize((note.size() + 3) / 4 * 4);
  note.insert(note.end(), description.begin(), description.end());
  note.resize((note.size() + 3) / 4 * 4);
  return note;
}

GuestMemory guest_memory(Bytes size) {
  auto memory = GuestMemory::create(size);
  if (!memory) throw std::runtime_error(memory.error().message);
  return std::move(*memory);
}

FileBytes guest_bytes(const GuestMemory& memory, GuestAddress address, std::size_t size) {
  FileBytes bytes(size);
  if (!memory.read(address, bytes)) throw std::runtime_error("not in guest memory");
  return bytes;
}

}  // namespace balloon::vmm
