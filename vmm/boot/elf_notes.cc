// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/elf_notes.h"

#include <elf.h>

#include <cstring>
#include <string_view>

namespace balloon::vmm {
namespace {

/// xen/include/public/elfnote.h: the 32-bit physical entry point for PVH.
constexpr std::uint32_t kPhys32Entry = 18;
constexpr std::string_view kXenName{"Xen\0", 4};

// Sizes are 32-bit in the file, so sums of a few of them cannot overflow 64 bits.
std::uint64_t padded(std::uint64_t size, std::uint64_t alignment) {
  return (size + alignment - 1) & ~(alignment - 1);
}

std::optional<std::uint64_t> address_in(std::span<const std::byte> description) {
  if (description.size() == sizeof(std::uint32_t)) {
    std::uint32_t value = 0;
    std::memcpy(&value, description.data(), sizeof value);
    return value;
  }
  if (description.size() == sizeof(std::uint64_t)) {
    std::uint64_t value = 0;
    std::memcpy(&value, description.data(), sizeof value);
    return value;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> find_pvh_entry(std::span<const std::byte> notes, std::uint64_t alignment) {
  const std::uint64_t pad = alignment == 8 ? 8 : 4;
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr header;
    std::memcpy(&header, notes.data(), sizeof header);
    const std::uint64_t description_at = padded(sizeof header + header.n_namesz, pad);
    const std::uint64_t description_end = description_at + header.n_descsz;
    if (description_end > notes.size()) return std::nullopt;
    std::string_view name(reinterpret_cast<const char*>(notes.data()) + sizeof header, header.n_namesz);
    if (name == kXenName && header.n_type == kPhys32Entry) {
      return address_in(notes.subspan(description_at, header.n_descsz));
    }
    const std::uint64_t next = padded(description_end, pad);
    if (next >= notes.size()) return std::nullopt;
    notes = notes.subspan(next);
  }
  return std::nullopt;
}

}  // namespace balloon::vmm
