// SPDX-License-Identifier: Apache-2.0
// ELF vmlinux with a PVH entry (xen docs/misc/pvh.pandoc; CONFIG_PVH=y in Linux).
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

/// A PT_LOAD segment, checked: its file part is in the file and not larger than its memory part, which does
/// not wrap.
struct ElfSegment {
  std::uint64_t file_offset;
  std::uint64_t file_size;
  GuestAddress address;
  std::uint64_t memory_size;
};

struct ElfKernel {
  std::vector<ElfSegment> segments;  ///< in address order, not overlapping, none empty
  GuestAddress entry;                ///< from the PVH note; in the file part of a segment
};

bool looks_like_elf(std::span<const std::byte> start);

Result<ElfKernel> parse_elf(const InputFile& file);

Result<BootEntry> load_elf(const GuestMemory& memory, const BootFiles& files);

}  // namespace balloon::vmm
