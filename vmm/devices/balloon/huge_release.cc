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
    if (held_.size() == kMostHugePages) release_oldest();
    held = held_.insert(held_.end(), {huge_page, {}});
  }
  const std::size_t before = held->pages.count();
  const std::size_t first = (piece.start - huge_page) / kPageSize;
  for (std::size_t page = first; page < first + piece.size / kPageSize; ++page) held->pages.set(page);
  bytes_ += (held->pages.count() - before) * kPageSize;
  if (held->pages.all()) {
    held_.erase(held);
    bytes_ -= kHugePageSize;
    release_({huge_page, kHugePageSize});
  }
  if (bytes_ > kMostHeld) release_oldest();
}

void HugeRelease::cancel(GuestRange range) {
  for_huge_pages(range, [this](GuestAddress huge_page, GuestRange piece) {
    const auto held = find(huge_page);
    if (held == held_.end()) return;
    const std::size_t before = held->pages.count();
    const std::size_t first = (piece.start - huge_page) / kPageSize;
    for (std::size_t page = first; page < first + piece.size / kPageSize; ++page) held->pages.reset(page);
    bytes_ -= (before - held->pages.count()) * kPageSize;
    if (held->pages.none()) held_.erase(held);
  });
}

void HugeRelease::flush() {
  for (const Held& held : held_) release_pages(held);
  drop();
}

void HugeRelease::drop() {
  held_.clear();
  bytes_ = 0;
}

void HugeRelease::release_oldest() {
  const Held oldest = held_.front();
  held_.erase(held_.begin());
  bytes_ -= oldest.pages.count() * kPageSize;
  release_pages(oldest);
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
