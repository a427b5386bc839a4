// SPDX-License-Identifier: Apache-2.0
// bzImage: the Linux/x86 boot protocol with the 64-bit entry (Documentation/arch/x86/boot.rst).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/input_file.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// What a bzImage's setup header says, checked.
struct BzImage {
  std::vector<std::byte> setup_header;  ///< as in the file, from 0x1f1
  std::uint64_t payload_offset;         ///< of the protected-mode part in the file
  std::uint64_t payload_size;
  GuestAddress load_address;
  std::uint64_t init_size;  ///< memory from load_address that the kernel uses before it reads the memory map
  GuestAddress initrd_end_max;     ///< an initrd must end at or below
  std::uint64_t command_line_max;  ///< characters, NUL not counted
};

/// True when the first bytes of a file have the signatures of a bzImage.
bool looks_like_bzimage(std::span<const std::byte> start);

Result<BzImage> parse_bzimage(const InputFile& file);

Result<BootEntry> load_bzimage(const GuestMemory& memory, const BootFiles& files);

}  // namespace balloon::vmm
