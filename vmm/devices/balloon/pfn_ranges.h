// SPDX-License-Identifier: Apache-2.0
// Page frame numbers as the guest sends them, made into few ranges. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/chain.h"

namespace balloon::vmm {

/// The pages of `pfns` (4 KiB units whatever the guest's page size: virtio 1.2, 5.5.6) as ascending ranges
/// that neither touch nor overlap. Sorts `pfns` in place; Linux sends them mostly descending, and a hostile
/// guest twice.
void to_ranges(std::span<std::uint32_t> pfns, std::vector<GuestRange>& ranges);

/// The pages that a chain names, a range after the other; a batch of them is read from the guest at once, and
/// kept.
class PfnReader {
 public:
  /// 16 of the 256-PFN arrays that Linux sends, 16 KiB of host memory.
  static constexpr std::size_t kBatch = 4096;

  /// The next range of the first `count` pages in `chain`; nothing when there is none. `done`: how many of
  /// them were read.
  const GuestRange* next(const Chain& chain, std::uint64_t count, std::uint64_t& done);
  /// The range that next() gave is dealt with.
  void pop() { ++at_; }
  /// Forgets what it has of a chain that is gone.
  void clear() {
    ranges_.clear();
    at_ = 0;
  }

 private:
  std::vector<std::uint32_t> pfns_;
  std::vector<GuestRange> ranges_;
  std::size_t at_ = 0;
};

}  // namespace balloon::vmm
