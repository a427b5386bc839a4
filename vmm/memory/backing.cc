// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/backing.h"

#include <fmt/format.h>

#include "base/pages.h"

namespace balloon::vmm {

Bytes page_size(HugePages huge_pages) {
  switch (huge_pages) {
    case HugePages::two_mib:
      return 2 * kMiB;
    case HugePages::one_gib:
      return kGiB;
    case HugePages::off:
    case HugePages::transparent:
      break;
  }
  return balloon::kPageSize;
}

Result<HugePages> parse_huge_pages(std::string_view text) {
  if (text == "off") return HugePages::off;
  if (text == "transparent") return HugePages::transparent;
  if (text == "2MiB" || text == "2M") return HugePages::two_mib;
  if (text == "1GiB" || text == "1G") return HugePages::one_gib;
  return fail(fmt::format("huge pages '{}': use off, transparent, 2MiB or 1GiB", text));
}

Result<void> check_backing(const MemoryBacking& backing, Bytes size) {
  const Bytes page = page_size(backing.huge_pages);
  if (size % page != Bytes{0}) {
    return fail(fmt::format("memory: {} is not a multiple of its pages of {}", format_bytes(size),
                            format_bytes(page)));
  }
  // mm/ksm.c, vma_ksm_compatible(): neither shared mappings nor hugetlbfs.
  if (backing.merge && (backing.shared || from_pool(backing.huge_pages))) {
    return fail("memory: merge works for private memory only, and not for pages of a pool");
  }
  if (backing.merge && backing.lock) return fail("memory: merge and lock contradict each other");
  if (backing.reserve && backing.shared && !backing.preallocate) {
    return fail("memory: shared memory is reserved only by allocating it: say preallocate as well");
  }
  return {};
}

}  // namespace balloon::vmm
