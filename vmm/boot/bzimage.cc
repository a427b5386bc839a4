// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/bzimage.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/boot/checked.h"
#include "vmm/boot/command_line.h"
#include "vmm/boot/e820.h"
#include "vmm/boot/initrd.h"
#include "vmm/boot/page_tables.h"
#include "vmm/boot/zero_page.h"

namespace balloon::vmm {
namespace {

// Numbers of Documentation/arch/x86/boot.rst.
constexpr std::uint16_t kBootFlag = 0xaa55;
constexpr std::uint32_t kHeaderMagic = 0x53726448;  // "HdrS"
constexpr std::uint16_t kMinVersion = 0x20c;        // 2.12: xloadflags with XLF_KERNEL_64
constexpr std::uint64_t kSectorSize = 512;
constexpr std::uint8_t kDefaultSetupSectors = 4;  // what 0 means in setup_sects
constexpr std::uint64_t kSyssizeUnit = 16;
constexpr std::uint64_t kEntry64Offset = 0x200;
constexpr std::uint64_t kJumpEnd = 0x202;  // the jump's 8-bit distance counts from here to the header's end
constexpr std::uint64_t kHeaderEndMin =
    kSetupHeaderOffset + offsetof(setup_header, init_size) + sizeof(std::uint32_t);
constexpr std::uint8_t kShortJump = 0xeb;

Result<void> check_protocol(const InputFile& file, const setup_header& header) {
  std::uint16_t version = header.version;
  if (version < kMinVersion) {
    return fail(fmt::format("{}: boot protocol {}.{} is too old: 2.12 is needed (Linux 3.8 and later)",
                            file.name(), version >> 8, version & 0xff));
  }
  if ((header.loadflags & LOADED_HIGH) == 0)
    return fail(file.name() + ": a zImage, which loads low; a bzImage is needed");
  if ((header.xloadflags & XLF_KERNEL_64) == 0)
    return fail(file.name() + ": a 32-bit kernel: it has no 64-bit entry (XLF_KERNEL_64)");
  return {};
}

Result<GuestAddress> choose_load_address(const InputFile& file, const setup_header& header) {
  std::uint64_t preferred = header.pref_address;
  if (header.relocatable_kernel == 0) {
    if (preferred < layout::kHighRamStart) {
      return fail(fmt::format("{}: wants to be loaded at {:#x}, below 1 MiB", file.name(), preferred));
    }
    return preferred;
  }
  std::uint32_t alignment = header.kernel_alignment;
  if (!std::has_single_bit(alignment)) {
    return fail(fmt::format("{}: bad setup header: kernel_alignment {:#x} is not a power of two", file.name(),
                            alignment));
  }
  auto aligned = checked_align_up(std::max(preferred, layout::kHighRamStart), alignment);
  if (!aligned) return fail(fmt::format("{}: bad setup header: pref_address {:#x}", file.name(), preferred));
  return *aligned;
}

Result<GuestAddress> kernel_end_in(const InputFile& file, const BzImage& image, GuestAddress ram_end) {
  auto end = checked_add(image.load_address, std::max(image.init_size, image.payload_size));
  if (end && *end <= ram_end) return *end;
  return fail(
      fmt::format("{}: too large for the guest's memory: it needs {} bytes from {:#x}, low RAM ends at {:#x}",
                  file.name(), std::max(image.init_size, image.payload_size), image.load_address, ram_end));
}

}  // namespace

bool looks_like_bzimage(std::span<const std::byte> start) {
  if (start.size() < kJumpEnd + sizeof kHeaderMagic) return false;
  setup_header header;
  std::memcpy(&header, start.data() + kSetupHeaderOffset,
              std::min(start.size() - kSetupHeaderOffset, sizeof header));
  return header.boot_flag == kBootFlag && header.header == kHeaderMagic;
}

Result<BzImage> parse_bzimage(const InputFile& file) {
  auto read = file.read<setup_header>(kSetupHeaderOffset, "the setup header");
  if (!read) return std::unexpected(read.error());
  const setup_header& header = *read;
  BALLOON_TRY(check_protocol(file, header));
  const std::uint16_t jump = header.jump;
  const std::uint64_t header_end = kJumpEnd + (jump >> 8);
  if ((jump & 0xff) != kShortJump || header_end < kHeaderEndMin) {
    return fail(fmt::format(
        "{}: bad setup header: its jump {:#x} says that it ends at {:#x}, protocol 2.12 needs {:#x}",
        file.name(), jump, header_end, kHeaderEndMin));
  }

  BzImage image{};
  image.setup_header.resize(std::min<std::uint64_t>(header_end - kSetupHeaderOffset, kSetupHeaderRoom));
  BALLOON_TRY(file.read(kSetupHeaderOffset, image.setup_header, "the setup header"));
  std::uint64_t setup_sectors = header.setup_sects == 0 ? kDefaultSetupSectors : header.setup_sects;
  image.payload_offset = (setup_sectors + 1) * kSectorSize;
  image.payload_size = header.syssize * kSyssizeUnit;
  if (image.payload_size <= kEntry64Offset) {
    return fail(fmt::format("{}: bad setup header: a kernel of {} bytes (syssize) has no 64-bit entry",
                            file.name(), image.payload_size));
  }
  BALLOON_TRY(file.require(image.payload_offset, image.payload_size, "the protected-mode kernel"));

  auto load_address = choose_load_address(file, header);
  if (!load_address) return std::unexpected(load_address.error());
  image.load_address = *load_address;
  image.init_size = header.init_size;
  image.initrd_end_max = std::uint64_t{header.initrd_addr_max} + 1;
  image.command_line_max = header.cmdline_size;
  return image;
}

Result<BootEntry> load_bzimage(const GuestMemory& memory, const BootFiles& files) {
  const InputFile& file = files.kernel;
  auto image = parse_bzimage(file);
  if (!image) return std::unexpected(image.error());
  GuestAddress ram_end = low_ram_end(memory);
  auto kernel_end = kernel_end_in(file, *image, ram_end);
  if (!kernel_end) return std::unexpected(kernel_end.error());
  BALLOON_TRY(write_command_line(memory, files.command_line, image->command_line_max));

  auto room = memory.at(image->load_address, image->payload_size);
  if (!room) return fail(fmt::format("{}: guest memory has no {:#x}", file.name(), image->load_address));
  BALLOON_TRY(file.read(image->payload_offset, *room, "the protected-mode kernel"));

  std::optional<GuestRange> initrd;
  if (files.initrd) {
    auto loaded = load_initrd(memory, *files.initrd, *kernel_end, std::min(ram_end, image->initrd_end_max));
    if (!loaded) return std::unexpected(loaded.error());
    initrd = *loaded;
  }

  auto map = memory_map(memory);
  boot_params zero_page = make_zero_page(
      image->setup_header, {.load_address = image->load_address, .initrd = initrd, .memory_map = map});
  if (!memory.write(layout::kZeroPage, zero_page)) return fail("guest memory has no room for the zero page");
  BALLOON_TRY(write_identity_map(memory));
  return BootEntry{.protocol = BootEntry::Protocol::linux64,
                   .instruction = image->load_address + kEntry64Offset,
                   .parameters = layout::kZeroPage};
}

}  // namespace balloon::vmm
