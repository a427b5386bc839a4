// SPDX-License-Identifier: Apache-2.0
// The zero page (struct boot_params) of the Linux boot protocol. Pure.
#pragma once

#include <asm/bootparam.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/boot/e820.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// The setup header's place, the same in a bzImage and in the zero page; boot_params has this much room for
/// it.
inline constexpr std::size_t kSetupHeaderOffset = offsetof(boot_params, hdr);
inline constexpr std::size_t kSetupHeaderRoom =
    offsetof(boot_params, edd_mbr_sig_buffer) - kSetupHeaderOffset;

struct ZeroPageConfig {
  GuestAddress load_address;
  std::optional<GuestRange> initrd;
  std::span<const MemoryMapEntry> memory_map;
};

/// `setup_header`: the bytes from 0x1f1 of the kernel file to the header's end (at most kSetupHeaderRoom are
/// taken).
boot_params make_zero_page(std::span<const std::byte> setup_header, const ZeroPageConfig& config);

}  // namespace balloon::vmm
