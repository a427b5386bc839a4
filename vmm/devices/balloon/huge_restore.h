// SPDX-License-Identifier: Apache-2.0
// Tells which huge pages the guest has as a whole again. Pure.
//
// A transparent huge page of which a part was released consists of small pages from then on: each that the
// guest touches for the first time costs a fault of its own, and khugepaged takes minutes to come by. Once
// the balloon has given all of it back, it can be made whole at once.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

class HugeRestore {
 public:
  /// `restore` is called with the start of each huge page below `end` that was released in parts and is the
  /// guest's again.
  HugeRestore(GuestAddress end, std::function<void(GuestAddress)> restore)
      : restore_(std::move(restore)), pages_(end / kHugePageSize) {}

  /// The guest gave `range` (whole pages) away, or took it back.
  void inflated(GuestRange range);
  void deflated(GuestRange range);
  /// `range` was released.
  void released(GuestRange range);
  /// The guest has all of its pages.
  void reset() { pages_.assign(pages_.size(), {}); }

 private:
  struct HugePage {
    std::uint16_t in_balloon = 0;  ///< pages; what the guest says, at most all
    bool in_parts = false;         ///< not mapped as one
  };
  template <typename Each>
  void for_huge_pages(GuestRange range, Each each);

  std::function<void(GuestAddress)> restore_;
  std::vector<HugePage> pages_;  ///< by number
};

}  // namespace balloon::vmm
