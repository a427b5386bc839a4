// SPDX-License-Identifier: Apache-2.0
// Gathers inflated pages into huge pages, and those into runs, before they are released. Pure.
//
// Linux hands over 1 MiB at a time (256 PFNs, drivers/virtio/virtio_balloon.c). Releasing that at once splits
// the host's transparent huge page, frees nothing until its other half follows, and leaves a page table
// behind, so that the guest gets the memory back in 4 KiB faults. Releasing 2 MiB in one call does none of
// this. Each call also interrupts the guest's CPUs, whose TLBs must forget the pages: so neighbours go in
// one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

class HugeRelease {
 public:
  /// Huge pages gathered at the same time, and bytes held back in them; beyond these the oldest gives way. A
  /// guest whose free memory is scattered needs many at once to complete any.
  static constexpr std::size_t kMostHugePages = 256;
  static constexpr std::uint64_t kMostHeld = (64 * kMiB).count();
  /// Whole huge pages that lie side by side are released together, this much at the most.
  static constexpr std::uint64_t kRun = (8 * kMiB).count();

  /// `whole_only`: the host has memory in pages of `huge_page` and nothing smaller (a pool's). Then parts are
  /// held for as long as it takes, a bit a page, and only whole ones released.
  explicit HugeRelease(std::function<void(GuestRange)> release, std::uint64_t huge_page = kHugePageSize,
                       bool whole_only = false)
      : release_(std::move(release)), huge_page_(huge_page), whole_only_(whole_only) {}

  /// The guest gave `range` (whole pages) away: holds it back until its huge page is complete, and that until
  /// its run is.
  void add(GuestRange range);
  /// Releases the huge pages that are complete: nothing may follow for a while.
  void release_run();
  /// The guest takes `range` back: what of it is held is not released.
  void cancel(GuestRange range);
  /// Releases the run, or else the oldest that is held; nothing of a pool's. Whether there is more.
  bool release_some();
  /// Forgets all that is held: the guest has it back.
  void drop();
  /// Bytes held back.
  std::uint64_t held() const { return bytes_; }
  bool whole_only() const { return whole_only_; }

 private:
  struct Held {
    std::uint64_t since = 0;  ///< rising: the smallest is the oldest
    std::size_t count = 0;    ///< pages set
    std::vector<bool> pages;
  };
  using HeldPages = std::map<GuestAddress, Held>;  ///< by the start of the huge page

  /// Calls `each` with every huge page that `range` touches and the part of the range within it.
  template <typename Each>
  void for_huge_pages(GuestRange range, Each each) const;
  void add_within(GuestAddress huge_page, GuestRange piece);
  /// A huge page is whole.
  void complete(GuestAddress huge_page);
  /// Sets the pages of `piece`, or takes them out.
  void mark(HeldPages::value_type& entry, GuestRange piece, bool held);
  void release_pages(const HeldPages::value_type& entry);
  void release_oldest();

  std::function<void(GuestRange)> release_;
  const std::uint64_t huge_page_;
  const bool whole_only_;
  HeldPages held_;
  GuestRange run_;  ///< of whole huge pages
  std::uint64_t next_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace balloon::vmm
