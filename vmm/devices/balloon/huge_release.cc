// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/huge_release.h"

#include <algorithm>
#include <utility>

namespace balloon::vmm {

template <typename Each>
void HugeRelease::for_huge_pages(GuestRange range, Each each) const {
  for (GuestAddress at = range.start; at < range.start + range.size;) {
    const GuestAddress huge_page = at / huge_page_ * huge_page_;
    const GuestAddress end = std::min(huge_page + huge_page_, range.start + range.size);
    each(huge_page, GuestRange{at, end - at});
    at = end;
  }
}

void HugeRelease::add(GuestRange range) {
  for_huge_pages(range, [this](GuestAddress huge_page, GuestRange piece) { add_within(huge_page, piece); });
}

void HugeRelease::add_within(GuestAddress huge_page, GuestRange piece) {
  auto held = held_.find(huge_page);
  if (held == held_.end()) {
    if (piece.size == huge_page_) {
      bytes_ += huge_page_;
      return complete(huge_page);
    }
    if (!whole_only_ && held_.size() == kMostHugePages) release_oldest();
    held =
        held_.emplace(huge_page, Held{.since = next_++, .pages = std::vector<bool>(huge_page_ / kPageSize)})
            .first;
  }
  mark(*held, piece, true);
  if (held->second.count == held->second.pages.size()) {
    held_.erase(held);
    complete(huge_page);
  }
  if (!whole_only_ && bytes_ - run_.size > kMostHeld) release_oldest();
}

void HugeRelease::complete(GuestAddress huge_page) {
  const bool before = huge_page + huge_page_ == run_.start;
  if (run_.size > 0 && !before && huge_page != run_.start + run_.size) release_run();
  run_ = {before || run_.size == 0 ? huge_page : run_.start, run_.size + huge_page_};
  if (whole_only_ || run_.size >= kRun) release_run();
}

void HugeRelease::release_run() {
  if (run_.size == 0) return;
  bytes_ -= run_.size;
  release_(std::exchange(run_, {}));
}

void HugeRelease::cancel(GuestRange range) {
  const GuestAddress end = range.start + range.size;
  const GuestAddress run_end = run_.start + run_.size;
  if (range.start < run_end && run_.start < end) {
    bytes_ -= run_.size;
    const GuestRange run = std::exchange(run_, {});
    if (run.start < range.start) release_({run.start, range.start - run.start});
    if (end < run_end) release_({end, run_end - end});
  }
  for_huge_pages(range, [this](GuestAddress huge_page, GuestRange piece) {
    const auto held = held_.find(huge_page);
    if (held == held_.end()) return;
    mark(*held, piece, false);
    if (held->second.count == 0) held_.erase(held);
  });
}

void HugeRelease::mark(HeldPages::value_type& entry, GuestRange piece, bool held) {
  auto& [huge_page, state] = entry;
  const std::size_t first = (piece.start - huge_page) / kPageSize;
  for (std::size_t page = first; page < first + piece.size / kPageSize; ++page) {
    if (state.pages[page] == held) continue;
    state.pages[page] = held;
    held ? ++state.count : --state.count;
    held ? bytes_ += kPageSize : bytes_ -= kPageSize;
  }
}

bool HugeRelease::release_some() {
  if (whole_only_) return false;
  if (run_.size > 0) {
    release_run();
  } else if (!held_.empty()) {
    release_oldest();
  }
  return run_.size > 0 || !held_.empty();
}

void HugeRelease::drop() {
  held_.clear();
  run_ = {};
  bytes_ = 0;
}

void HugeRelease::release_oldest() {
  const auto oldest = std::ranges::min_element(
      held_, {}, [](const HeldPages::value_type& entry) { return entry.second.since; });
  const auto node = held_.extract(oldest);
  bytes_ -= node.mapped().count * kPageSize;
  release_pages({node.key(), node.mapped()});
}

void HugeRelease::release_pages(const HeldPages::value_type& entry) {
  const auto& [start, held] = entry;
  for (std::size_t page = 0; page < held.pages.size();) {
    std::size_t end = page;
    while (end < held.pages.size() && held.pages[end]) ++end;
    if (end > page) release_({start + page * kPageSize, (end - page) * kPageSize});
    page = end + 1;
  }
}

}  // namespace balloon::vmm
