// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/e820.h"

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

/// KVM's own pages (identity map and TSS) up to the end of their 16 KiB block.
constexpr GuestAddress kKvmPagesEnd = 0xff000000;

}  // namespace

GuestAddress low_ram_end(const GuestMemory& memory) {
  for (const GuestMemory::Region& region : memory.regions()) {
    if (region.start == 0) return region.host.size();
  }
  return 0;
}

std::vector<MemoryMapEntry> memory_map(const GuestMemory& memory) {
  std::vector<MemoryMapEntry> map;
  map.push_back({0, layout::kLowRamEnd, MemoryType::ram});
  map.push_back({layout::kLowRamEnd, layout::kHighRamStart - layout::kLowRamEnd, MemoryType::reserved});
  if (GuestAddress end = low_ram_end(memory); end > layout::kHighRamStart) {
    map.push_back({layout::kHighRamStart, end - layout::kHighRamStart, MemoryType::ram});
  }
  map.push_back({layout::kKvmIdentityMap, kKvmPagesEnd - layout::kKvmIdentityMap, MemoryType::reserved});
  for (const GuestMemory::Region& region : memory.regions()) {
    if (region.start >= layout::kHighMemoryStart)
      map.push_back({region.start, region.host.size(), MemoryType::ram});
  }
  return map;
}

}  // namespace balloon::vmm
