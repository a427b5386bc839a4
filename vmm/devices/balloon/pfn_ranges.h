// Page frame numbers as the guest sends them, made into few ranges. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// The pages of `pfns` (4 KiB units whatever the guest's page size: virtio 1.2, 5.5.6) as ascending ranges
/// that neither touch nor overlap. Sorts `pfns` in place; Linux sends them mostly descending, and a hostile
/// guest twice.
void to_ranges(std::span<std::uint32_t> pfns, std::vector<GuestRange>& ranges);

}  // namespace balloon::vmm
