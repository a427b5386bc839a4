// SPDX-License-Identifier: Apache-2.0
// What a person at the terminal tells the VMM rather than the guest: Ctrl-A, and then a key. The keys are
// those of QEMU's multiplexed console (its docs/system/mux-chardev.rst). Pure.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>

namespace balloon::vmm {

class TerminalKeys {
 public:
  enum class Wish { end, help };
  static constexpr std::string_view kHelp =
      "\r\nCtrl-A x       ends the guest\r\nCtrl-A Ctrl-A  sends Ctrl-A\r\nCtrl-A h       tells this\r\n";

  /// Moves what is for the guest to the front of `typed` and returns it; calls `wish` for the rest.
  std::span<std::byte> take(std::span<std::byte> typed, const std::function<void(Wish)>& wish);

 private:
  bool escaped_ = false;  ///< the last key was Ctrl-A
};

}  // namespace balloon::vmm
