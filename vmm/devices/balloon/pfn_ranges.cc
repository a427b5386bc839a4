// SPDX-License-Identifier: Apache-2.0
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

const GuestRange* PfnReader::next(const Chain& chain, std::uint64_t count, std::uint64_t& done) {
  if (at_ == ranges_.size()) {
    clear();
    if (done == count) return nullptr;
    pfns_.resize(std::min<std::uint64_t>(kBatch, count - done));
    chain.read(done * sizeof(std::uint32_t), std::as_writable_bytes(std::span(pfns_)));
    done += pfns_.size();
    to_ranges(pfns_, ranges_);
  }
  return &ranges_[at_];
}

}  // namespace balloon::vmm
