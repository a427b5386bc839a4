// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_pvh.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/boot/checked.h"
#include "vmm/boot/command_line.h"
#include "vmm/boot/e820.h"
#include "vmm/boot/elf_notes.h"
#include "vmm/boot/initrd.h"
#include "vmm/boot/start_info.h"

namespace balloon::vmm {
namespace {

/// Linux's COMMAND_LINE_SIZE (arch/x86/include/asm/setup.h) less its NUL; an ELF file does not say its own.
constexpr std::uint64_t kLinuxCommandLineMax = 2047;
/// Linux has a few program headers; 64 is far above and bounds the work on a hostile file.
constexpr std::size_t kProgramHeadersMax = 64;
/// Linux's notes are some hundred bytes.
constexpr std::uint64_t kNotesMax = (64 * kKiB).count();

std::string machine_name(std::uint16_t machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_AARCH64:
      return "arm64";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390";
    default:
      return fmt::format("machine {}", machine);
  }
}

Result<void> check_header(const InputFile& file, const Elf64_Ehdr& header) {
  // The identification is the same in both classes; the rest of a 32-bit header lies elsewhere.
  if (header.e_ident[EI_CLASS] != ELFCLASS64)
    return fail(file.name() + ": a 32-bit ELF file; an x86-64 kernel is needed");
  if (header.e_ident[EI_DATA] != ELFDATA2LSB)
    return fail(file.name() + ": a big-endian ELF file; an x86-64 kernel is needed");
  if (header.e_machine != EM_X86_64) {
    return fail(fmt::format("{}: an ELF file for {}; an x86-64 kernel is needed", file.name(),
                            machine_name(header.e_machine)));
  }
  if (header.e_type == ET_REL) return fail(file.name() + ": an ELF object file (.o or .ko), not a kernel");
  if (header.e_type == ET_CORE) return fail(file.name() + ": an ELF core dump, not a kernel");
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return fail(fmt::format("{}: an ELF file of unknown type {}", file.name(), header.e_type));
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return fail(
        fmt::format("{}: bad ELF header: program headers of {} bytes", file.name(), header.e_phentsize));
  }
  if (header.e_phnum == 0 || header.e_phnum > kProgramHeadersMax) {
    return fail(fmt::format("{}: bad ELF header: {} program headers, 1 to {} expected", file.name(),
                            header.e_phnum, kProgramHeadersMax));
  }
  return {};
}

Result<ElfSegment> check_segment(const InputFile& file, std::size_t index, const Elf64_Phdr& header) {
  std::string part = fmt::format("segment {}", index);
  if (header.p_filesz > header.p_memsz) {
    return fail(fmt::format("{}: bad ELF {}: {:#x} bytes in the file for {:#x} in memory", file.name(), part,
                            header.p_filesz, header.p_memsz));
  }
  if (!checked_add(header.p_paddr, header.p_memsz)) {
    return fail(fmt::format("{}: bad ELF {}: {:#x} bytes at {:#x} go beyond the address space", file.name(),
                            part, header.p_memsz, header.p_paddr));
  }
  BALLOON_TRY(file.require(header.p_offset, header.p_filesz, part));
  return ElfSegment{header.p_offset, header.p_filesz, header.p_paddr, header.p_memsz};
}

Result<std::optional<GuestAddress>> entry_in_notes(const InputFile& file, const Elf64_Phdr& header) {
  BALLOON_TRY(file.require(header.p_offset, header.p_filesz, "the note segment"));
  if (header.p_filesz > kNotesMax) {
    return fail(fmt::format("{}: bad ELF file: a note segment of {} bytes", file.name(), header.p_filesz));
  }
  std::vector<std::byte> notes(header.p_filesz);
  BALLOON_TRY(file.read(header.p_offset, notes, "the note segment"));
  return find_pvh_entry(notes, header.p_align);
}

Result<void> check_layout(const InputFile& file, ElfKernel& kernel) {
  auto& segments = kernel.segments;
  if (segments.empty()) return fail(file.name() + ": an ELF file with nothing to load");
  std::ranges::sort(segments, {}, &ElfSegment::address);
  for (std::size_t i = 1; i < segments.size(); ++i) {
    if (segments[i].address < segments[i - 1].address + segments[i - 1].memory_size) {
      return fail(fmt::format("{}: bad ELF file: segments at {:#x} and {:#x} overlap", file.name(),
                              segments[i - 1].address, segments[i].address));
    }
  }
  bool entry_loaded = std::ranges::any_of(segments, [&](const ElfSegment& segment) {
    return kernel.entry >= segment.address && kernel.entry - segment.address < segment.file_size;
  });
  if (!entry_loaded) {
    return fail(
        fmt::format("{}: bad PVH note: the entry {:#x} is in no loaded segment", file.name(), kernel.entry));
  }
  return {};
}

Result<void> load_segment(const GuestMemory& memory, const InputFile& file, const ElfSegment& segment) {
  const GuestAddress end = segment.address + segment.memory_size;
  const GuestAddress ram_end = low_ram_end(memory);
  if (segment.address < layout::kHighRamStart) {
    return fail(fmt::format("{}: wants to be loaded at {:#x}, below 1 MiB", file.name(), segment.address));
  }
  auto room = memory.at(segment.address, segment.memory_size);
  if (end > ram_end || !room) {
    return fail(
        fmt::format("{}: too large for the guest's memory: it needs {:#x} to {:#x}, low RAM ends at {:#x}",
                    file.name(), segment.address, end, ram_end));
  }
  BALLOON_TRY(file.read(segment.file_offset, room->first(segment.file_size), "a segment"));
  // Fresh guest memory is zero already, but a guest that reboots finds its old one.
  auto rest = room->subspan(segment.file_size);
  std::memset(rest.data(), 0, rest.size());
  return {};
}

Result<void> write_start_info(const GuestMemory& memory, std::optional<GuestRange> initrd) {
  std::vector<StartInfoMemory> map;
  for (const MemoryMapEntry& entry : memory_map(memory)) {
    map.push_back({entry.start, entry.size, static_cast<std::uint32_t>(entry.type), 0});
  }
  StartInfo info{};
  info.magic = kStartInfoMagic;
  info.version = kStartInfoVersion;
  info.command_line = layout::kCommandLine;
  info.rsdp = layout::kAcpiTables;
  info.memory_map = layout::kPvhMemoryMap;
  info.memory_map_entries = static_cast<std::uint32_t>(map.size());
  bool written = memory.write(layout::kPvhMemoryMap, std::as_bytes(std::span(map)));
  if (initrd) {
    info.module_count = 1;
    info.modules = layout::kPvhModules;
    written =
        written && memory.write(layout::kPvhModules, StartInfoModule{initrd->start, initrd->size, 0, 0});
  }
  if (!written || !memory.write(layout::kPvhStartInfo, info))
    return fail("guest memory has no room for the start info");
  return {};
}

}  // namespace

bool looks_like_elf(std::span<const std::byte> start) {
  return start.size() >= SELFMAG && std::memcmp(start.data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfKernel> parse_elf(const InputFile& file) {
  auto header = file.read<Elf64_Ehdr>(0, "the ELF header");
  if (!header) return std::unexpected(header.error());
  BALLOON_TRY(check_header(file, *header));
  std::vector<Elf64_Phdr> program_headers(header->e_phnum);
  BALLOON_TRY(
      file.read(header->e_phoff, std::as_writable_bytes(std::span(program_headers)), "the program headers"));

  ElfKernel kernel{};
  std::optional<GuestAddress> entry;
  for (std::size_t i = 0; i < program_headers.size(); ++i) {
    const Elf64_Phdr& program_header = program_headers[i];
    if (program_header.p_type == PT_LOAD && program_header.p_memsz > 0) {
      auto segment = check_segment(file, i, program_header);
      if (!segment) return std::unexpected(segment.error());
      kernel.segments.push_back(*segment);
    } else if (program_header.p_type == PT_NOTE && !entry) {
      auto found = entry_in_notes(file, program_header);
      if (!found) return std::unexpected(found.error());
      entry = *found;
    }
  }
  if (!entry) {
    return fail(file.name() +
                ": an ELF file without a PVH entry note: not a kernel, or one built without CONFIG_PVH");
  }
  kernel.entry = *entry;
  BALLOON_TRY(check_layout(file, kernel));
  return kernel;
}

Result<BootEntry> load_elf(const GuestMemory& memory, const BootFiles& files) {
  const InputFile& file = files.kernel;
  auto kernel = parse_elf(file);
  if (!kernel) return std::unexpected(kernel.error());
  BALLOON_TRY(write_command_line(memory, files.command_line, kLinuxCommandLineMax));
  for (const ElfSegment& segment : kernel->segments) BALLOON_TRY(load_segment(memory, file, segment));

  std::optional<GuestRange> initrd;
  if (files.initrd) {
    const ElfSegment& last = kernel->segments.back();
    auto loaded = load_initrd(memory, *files.initrd, last.address + last.memory_size, low_ram_end(memory));
    if (!loaded) return std::unexpected(loaded.error());
    initrd = *loaded;
  }
  BALLOON_TRY(write_start_info(memory, initrd));
  return BootEntry{.protocol = BootEntry::Protocol::pvh,
                   .instruction = kernel->entry,
                   .parameters = layout::kPvhStartInfo};
}

}  // namespace balloon::vmm
