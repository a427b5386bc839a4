// SPDX-License-Identifier: Apache-2.0
// Finds the PVH entry in the bytes of an ELF note segment. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace balloon::vmm {

/// The physical address in the note "Xen" of type XEN_ELFNOTE_PHYS32_ENTRY (18), or nothing when no
/// well-formed one is there. `alignment`: the segment's p_align; notes are padded to 8 when it is 8, else
/// to 4.
std::optional<std::uint64_t> find_pvh_entry(std::span<const std::byte> notes, std::uint64_t alignment);

}  // namespace balloon::vmm
