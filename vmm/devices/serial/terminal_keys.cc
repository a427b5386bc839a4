// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial/terminal_keys.h"

#include <utility>

namespace balloon::vmm {
namespace {

constexpr std::byte kEscape{1};  // Ctrl-A
constexpr std::byte kEnd{'x'};
constexpr std::byte kHelpKey{'h'};
constexpr std::byte kHelpToo{'?'};

}  // namespace

std::span<std::byte> TerminalKeys::take(std::span<std::byte> typed, const std::function<void(Wish)>& wish) {
  std::size_t kept = 0;
  for (const std::byte key : typed) {
    const bool escaped = std::exchange(escaped_, !escaped_ && key == kEscape);
    if (escaped_) continue;
    if (!escaped || key == kEscape) {
      typed[kept++] = key;
    } else if (key == kEnd) {
      wish(Wish::end);
    } else if (key == kHelpKey || key == kHelpToo) {
      wish(Wish::help);
    }  // others mean nothing
  }
  return typed.first(kept);
}

}  // namespace balloon::vmm
