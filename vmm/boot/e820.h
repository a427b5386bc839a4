// SPDX-License-Identifier: Apache-2.0
// The memory map a kernel is told, the same in both boot protocols.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// Type numbers of E820 (ACPI 6.4, table 15-6), which PVH uses too.
enum class MemoryType : std::uint32_t { ram = 1, reserved = 2 };

struct MemoryMapEntry {
  GuestAddress start;
  std::uint64_t size;
  MemoryType type;
  friend bool operator==(const MemoryMapEntry&, const MemoryMapEntry&) = default;
};

/// In address order, without overlaps. All RAM is there as RAM, but for the end of the first MiB (tables lie
/// there).
std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory);

/// End of the RAM that starts at address 0: the room for kernel and initrd.
GuestAddress low_ram_end(const GuestMemory& memory);

}  // namespace balloon::vmm
