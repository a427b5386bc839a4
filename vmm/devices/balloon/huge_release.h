// Gathers inflated pages into huge pages before they are released. Pure.
//
// Linux hands over 1 MiB at a time (256 PFNs, drivers/virtio/virtio_balloon.c). Releasing that at once splits
// the host's transparent huge page, frees nothing until its other half follows, and leaves a page table
// behind, so that the guest gets the memory back in 4 KiB faults. Releasing 2 MiB in one call does none of
// this.
#pragma once

#include <bitset>
#include <functional>
#include <span>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

class HugeRelease {
 public:
  /// Huge pages gathered at the same time, and bytes held back in them; beyond these the oldest gives way. A
  /// guest whose free memory is scattered needs many at once to complete any.
  static constexpr std::size_t kMostHugePages = 256;
  static constexpr Bytes kMostHeld = 64 * kMiB;

  explicit HugeRelease(std::function<void(GuestRange)> release) : release_(std::move(release)) {}

  /// The guest gave `range` (whole pages) away: releases it now, or holds it back until its huge page is
  /// complete.
  void add(GuestRange range);
  /// The guest takes `range` back: what of it is held is not released.
  void cancel(GuestRange range);
  /// Releases all that is held.
  void flush();
  /// Forgets all that is held: the guest has it back.
  void drop();
  /// Bytes held back.
  Bytes held() const { return bytes_; }

 private:
  static constexpr std::size_t kPages = kHugePageSize / kPageSize;
  struct Held {
    GuestAddress start;  ///< of the huge page
    std::bitset<kPages> pages;
  };

  std::vector<Held>::iterator find(GuestAddress huge_page);
  void add_within(GuestAddress huge_page, GuestRange piece);
  void release_pages(const Held& held);
  void release_oldest();

  std::function<void(GuestRange)> release_;
  std::vector<Held> held_;  ///< oldest first
  Bytes bytes_ = 0;
};

}  // namespace balloon::vmm
