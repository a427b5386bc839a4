// SPDX-License-Identifier: Apache-2.0
// Identity page tables of the first 4 GiB, for the 64-bit entry.
#pragma once

#include "base/error.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// Writes PML4, PDPT and four page directories of 2 MiB pages at layout::kPageTables.
Result<void> write_identity_map(const GuestMemory& memory);

}  // namespace balloon::vmm
