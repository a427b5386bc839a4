// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {

Result<void> write_command_line(const GuestMemory& memory, std::string_view text,
                                std::uint64_t kernel_limit) {
  if (auto nul = text.find('\0'); nul != std::string_view::npos) {
    return fail(fmt::format("command line: has a NUL character at position {}", nul));
  }
  std::uint64_t limit = std::min(kernel_limit, layout::kCommandLineMax - 1);
  if (text.size() > limit) {
    return fail(
        fmt::format("command line: too long: {} characters, this kernel takes {}", text.size(), limit));
  }
  std::string terminated(text);
  if (!memory.write(layout::kCommandLine,
                    std::as_bytes(std::span(terminated.c_str(), terminated.size() + 1)))) {
    return fail(fmt::format("command line: guest memory has no {:#x}", layout::kCommandLine));
  }
  return {};
}

}  // namespace balloon::vmm
