// SPDX-License-Identifier: Apache-2.0
// What guest RAM is made of on the host. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace balloon::vmm {

enum class HugePages : std::uint8_t {
  off,          ///< 4 KiB pages
  transparent,  ///< huge where the host has them (madvise(2), MADV_HUGEPAGE)
  two_mib,      ///< from the host's pool of 2 MiB pages (hugetlbfs)
  one_gib,      ///< from its pool of 1 GiB pages
};

struct MemoryBacking {
  HugePages huge_pages = HugePages::transparent;
  bool shared = false;       ///< a memfd that another process can map, instead of private memory
  bool merge = false;        ///< KSM may share equal pages with other guests (MADV_MERGEABLE)
  bool reserve = false;      ///< counted against the host's commit limit; pool pages always are
  bool preallocate = false;  ///< all of it is there before the guest runs
  bool lock = false;         ///< never in the host's swap
  friend bool operator==(const MemoryBacking&, const MemoryBacking&) = default;
};

/// The smallest piece that the host gets back: pages of a pool come and go whole.
Bytes page_size(HugePages huge_pages);
inline bool from_pool(HugePages huge_pages) {
  return huge_pages == HugePages::two_mib || huge_pages == HugePages::one_gib;
}

/// "off", "transparent", "2MiB", "1GiB".
Result<HugePages> parse_huge_pages(std::string_view text);

/// Whether `size` bytes can be made of it: what does not go together, and why.
Result<void> check_backing(const MemoryBacking& backing, Bytes size);

}  // namespace balloon::vmm
