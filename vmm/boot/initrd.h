// SPDX-License-Identifier: Apache-2.0
// Places an initrd as high as it may lie and reads it there.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "vmm/boot/input_file.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// Where an initrd of `size` bytes goes: page-aligned, ending at or below `ceiling`, starting at or above
/// `floor`. An error says how much room there is.
Result<GuestAddress> place_initrd(std::uint64_t size, GuestAddress floor, GuestAddress ceiling);

/// Loads the file between the end of the kernel's working area and `ceiling` (both exclusive of the initrd).
Result<GuestRange> load_initrd(const GuestMemory& memory, const InputFile& file, GuestAddress kernel_end,
                               GuestAddress ceiling);

}  // namespace balloon::vmm
