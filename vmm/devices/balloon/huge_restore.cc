// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/huge_restore.h"

#include <algorithm>

namespace balloon::vmm {
namespace {

constexpr std::uint16_t kPages = kHugePageSize / kPageSize;

}  // namespace

/// `each` gets a huge page's number, its state and how many of its pages the range has.
template <typename Each>
void HugeRestore::for_huge_pages(GuestRange range, Each each) {
  const GuestAddress end = std::min<GuestAddress>(range.start + range.size, pages_.size() * kHugePageSize);
  for (GuestAddress at = range.start; at < end;) {
    const std::size_t number = at / kHugePageSize;
    const GuestAddress next = std::min((number + 1) * kHugePageSize, end);
    each(number, pages_[number], static_cast<std::uint16_t>((next - at) / kPageSize));
    at = next;
  }
}

void HugeRestore::inflated(GuestRange range) {
  for_huge_pages(range, [](std::size_t, HugePage& page, std::uint16_t count) {
    page.in_balloon = std::min<std::uint16_t>(kPages, page.in_balloon + count);
  });
}

void HugeRestore::deflated(GuestRange range) {
  for_huge_pages(range, [this](std::size_t number, HugePage& page, std::uint16_t count) {
    page.in_balloon -= std::min(page.in_balloon, count);
    if (page.in_balloon == 0 && std::exchange(page.in_parts, false)) restore_(number * kHugePageSize);
  });
}

void HugeRestore::released(GuestRange range) {
  for_huge_pages(range, [](std::size_t, HugePage& page, std::uint16_t count) {
    if (count < kPages) page.in_parts = true;
  });
}

}  // namespace balloon::vmm
