// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/zero_page.h"

#include <algorithm>
#include <cstring>

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

/// type_of_loader of a boot loader without an assigned number (Documentation/arch/x86/boot.rst).
constexpr std::uint8_t kUnregisteredLoader = 0xff;

}  // namespace

boot_params make_zero_page(std::span<const std::byte> setup_header, const ZeroPageConfig& config) {
  boot_params page;
  std::memset(&page, 0, sizeof page);
  std::memcpy(reinterpret_cast<std::byte*>(&page) + kSetupHeaderOffset, setup_header.data(),
              std::min(setup_header.size(), kSetupHeaderRoom));

  page.hdr.type_of_loader = kUnregisteredLoader;
  page.hdr.loadflags =
      static_cast<std::uint8_t>(page.hdr.loadflags & ~CAN_USE_HEAP);  // the real-mode part does not run
  page.hdr.code32_start = static_cast<std::uint32_t>(config.load_address);
  page.hdr.cmd_line_ptr = static_cast<std::uint32_t>(layout::kCommandLine);
  page.hdr.setup_data = 0;
  page.hdr.ramdisk_image = 0;
  page.hdr.ramdisk_size = 0;
  if (config.initrd) {
    page.hdr.ramdisk_image = static_cast<std::uint32_t>(config.initrd->start);
    page.hdr.ramdisk_size = static_cast<std::uint32_t>(config.initrd->size);
  }
  page.acpi_rsdp_addr = layout::kAcpiTables;

  std::size_t count = std::min<std::size_t>(config.memory_map.size(), E820_MAX_ENTRIES_ZEROPAGE);
  for (std::size_t i = 0; i < count; ++i) {
    const MemoryMapEntry& entry = config.memory_map[i];
    page.e820_table[i] = {
        .addr = entry.start, .size = entry.size, .type = static_cast<std::uint32_t>(entry.type)};
  }
  page.e820_entries = static_cast<std::uint8_t>(count);
  return page;
}

}  // namespace balloon::vmm
