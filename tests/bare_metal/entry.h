// SPDX-License-Identifier: Apache-2.0
// The first instructions of a test guest, and its command line.
#pragma once

#include <stdint.h>

namespace bare {

/// What the guest does; defined by each.
void start(const char* command_line);

inline bool contains(const char* text, const char* word) {
  for (; *text != 0; ++text) {
    unsigned i = 0;
    while (word[i] != 0 && text[i] == word[i]) ++i;
    if (word[i] == 0) return true;
  }
  return false;
}

}  // namespace bare

/// PVH's entry: EBX points to hvm_start_info, whose command line lies at offset 24.
extern "C" [[gnu::used]] inline void enter(const uint32_t* start_info) {
  bare::start(reinterpret_cast<const char*>(start_info[6]));
}

asm(".section .start, \"ax\"\n"
    ".globl start\n"
    "start:\n"
    "  mov $0x80000, %esp\n"  // free low memory
    "  push %ebx\n"
    "  call enter\n"
    ".previous\n");
