#include "vmm/devices/balloon/huge_release.h"

#include <algorithm>

namespace balloon::vmm {
namespace {

/// Calls `each` with every huge page that `range` touches and the part of the range within it.
template <typename Each>
void for_huge_pages(GuestRange range, Each each) {
  for (GuestAddress at = range.start; at < range.start + range.size;) {
    const GuestAddress huge_page = at / kHugePageSize * kHugePageSize;
    const GuestAddress end = std::min(huge_page + kHugePageSize, range.start + range.size);
    each(huge_page, GuestRange{at, end - at});
    at = end;
  }
}

}  // namespace

void HugeRelease::add(GuestRange range) {
  for_huge_pages(range, [this](GuestAddress huge_page, GuestRange piece) { add_within(huge_page, piece); });
}

void HugeRelease::add_within(GuestAddress huge_page, GuestRange piece) {
  auto held = find(huge_page);
  if (held == held_.end()) {
    if (piece.size == kHugePageSize) return release_(piece);
    if (held_.size() == kMostHeld) {
      release_pages(held_.front());
      held_.erase(held_.begin());
    }
    held = held_.insert(held_.end(), {huge_page, {}});
  }
  const std::size_t first = (piece.start - huge_page) / kPageSize;
  for (std::size_t page = first; page < first + piece.size / kPageSize; ++page) held->pages.set(page);
  if (!held->pages.all()) return;
  held_.erase(held);
  release_({huge_page, kHugePageSize});
}

void HugeRelease::cancel(GuestRange range) {
  for_huge_pages(range, [this](GuestAddress huge_page, GuestRange piece) {
    const auto held = find(huge_page);
    if (held == held_.end()) return;
    const std::size_t first = (piece.start - huge_page) / kPageSize;
    for (std::size_t page = first; page < first + piece.size / kPageSize; ++page) held->pages.reset(page);
    if (held->pages.none()) held_.erase(held);
  });
}

void HugeRelease::flush() {
  for (const Held& held : held_) release_pages(held);
  held_.clear();
}

std::vector<HugeRelease::Held>::iterator HugeRelease::find(GuestAddress huge_page) {
  return std::ranges::find(held_, huge_page, &Held::start);
}

void HugeRelease::release_pages(const Held& held) {
  for (std::size_t page = 0; page < kPages;) {
    std::size_t end = page;
    while (end < kPages && held.pages[end]) ++end;
    if (end > page) release_({held.start + page * kPageSize, (end - page) * kPageSize});
    page = end + 1;
  }
}

}  // namespace balloon::vmm
