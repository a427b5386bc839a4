// SPDX-License-Identifier: Apache-2.0
// Checks the kernel command line and writes it at layout::kCommandLine.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// `kernel_limit`: the longest text that the kernel takes, its terminating NUL not counted; longer ones it
/// would cut silently.
Result<void> write_command_line(const GuestMemory& memory, std::string_view text, std::uint64_t kernel_limit);

}  // namespace balloon::vmm
