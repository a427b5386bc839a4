// SPDX-License-Identifier: Apache-2.0
// Puts an unmodified Linux kernel, its initrd and its command line into guest memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "vmm/boot/input_file.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

struct BootSource {
  std::string kernel;  ///< path of a bzImage (boot protocol 2.12+, 64-bit) or an ELF vmlinux with a PVH note
  std::optional<std::string> initrd;  ///< path
  std::string command_line;
};

/// A BootSource's files, open: a guest boots from them again after its reboot, wherever their names lead by
/// then.
struct BootFiles {
  InputFile kernel;
  std::optional<InputFile> initrd;
  std::string command_line;
};
Result<BootFiles> open_boot_files(const BootSource& source);

/// How the first vCPU enters the kernel.
struct BootEntry {
  enum class Protocol {
    linux64,  ///< long mode, identity page tables at layout::kPageTables, RSI = zero page
              ///< (Documentation/arch/x86/boot.rst)
    pvh,      ///< 32-bit flat protected mode, paging off, RBX = hvm_start_info
              ///< (xen/include/public/arch-x86/hvm/start_info.h)
  };
  Protocol protocol;
  GuestAddress instruction;  ///< first instruction
  GuestAddress parameters;   ///< zero page or start_info
};

/// Loads everything and writes zero page or PVH structures, E820 included, GDT and page tables. Fails with
/// what is wrong with which file: not a kernel, truncated, too large for the guest's memory, no 64-bit or PVH
/// entry, command line too long.
Result<BootEntry> load_kernel(const GuestMemory& memory, const BootFiles& files);

}  // namespace balloon::vmm
