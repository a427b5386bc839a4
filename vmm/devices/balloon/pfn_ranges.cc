#include "vmm/devices/balloon/pfn_ranges.h"

#include <algorithm>

namespace balloon::vmm {

void to_ranges(std::span<std::uint32_t> pfns, std::vector<GuestRange>& ranges) {
  ranges.clear();
  std::ranges::sort(pfns);
  for (const std::uint32_t pfn : pfns) {
    // 64-bit before the multiplication: a PFN of 2^20 is already 4 GiB.
    const GuestAddress start = GuestAddress{pfn} * kPageSize;
    if (ranges.empty() || start > ranges.back().start + ranges.back().size) {
      ranges.push_back({start, kPageSize});
    } else if (start == ranges.back().start + ranges.back().size) {
      ranges.back().size += kPageSize;
    }
  }
}

}  // namespace balloon::vmm
