// SPDX-License-Identifier: Apache-2.0
// Which pages of guest memory have something in them. Pages that the host has given no memory, because the
// guest never touched them or the balloon gave them back, and pages of zeros, are alike: a fresh machine has
// them so.
#pragma once

#include <functional>

#include "base/error.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// Calls `each` with runs of whole pages that are not all zeros, in ascending order, of at most `longest`
/// bytes. Gives no page to what has none: a page is looked at only when the host has it in memory or swap.
/// Stops at the first error of `each`.
Result<void> for_each_used(const GuestMemory& memory, std::uint64_t longest,
                           const std::function<Result<void>(GuestAddress, std::span<const std::byte>)>& each);

}  // namespace balloon::vmm
