// SPDX-License-Identifier: Apache-2.0
// The boot GDT: written to guest memory by the loader, and what the first segment registers say.
#pragma once

#include <array>
#include <cstdint>

namespace balloon::vmm::gdt {

// Selectors. 0x10 and 0x18 are Linux's __BOOT_CS and __BOOT_DS, which its 64-bit boot protocol requires.
inline constexpr std::uint16_t kCode32 = 0x08;
inline constexpr std::uint16_t kCode64 = 0x10;
inline constexpr std::uint16_t kData = 0x18;
inline constexpr std::uint16_t kTss = 0x20;

/// What descriptors differ in (Intel SDM volume 3, 3.4.5): access byte and flags nibble.
struct Descriptor {
  std::uint8_t type;      ///< 4 bits
  bool code_or_data;      ///< S
  bool long_mode;         ///< L
  bool default_32;        ///< D/B
  bool page_granularity;  ///< G
  std::uint32_t limit;    ///< in bytes; base is 0 in all
};

inline constexpr std::uint8_t kTypeCodeAccessed = 0xb;  // execute, read, accessed
inline constexpr std::uint8_t kTypeDataAccessed = 0x3;  // read, write, accessed
inline constexpr std::uint8_t kTypeTssBusy = 0xb;       // 32- or 64-bit TSS, busy

inline constexpr Descriptor kCode32Descriptor{kTypeCodeAccessed, true, false, true, true, 0xffffffff};
inline constexpr Descriptor kCode64Descriptor{kTypeCodeAccessed, true, true, false, true, 0xffffffff};
inline constexpr Descriptor kDataDescriptor{kTypeDataAccessed, true, false, true, true, 0xffffffff};
inline constexpr Descriptor kTssDescriptor{kTypeTssBusy, false, false, false, false, 0x67};

constexpr std::uint64_t encode(const Descriptor& descriptor) {
  const std::uint64_t limit = descriptor.page_granularity ? descriptor.limit >> 12 : descriptor.limit;
  constexpr std::uint64_t kPresent = std::uint64_t{1} << 47;
  return (limit & 0xffff) | std::uint64_t{descriptor.type} << 40 |
         std::uint64_t{descriptor.code_or_data} << 44 | kPresent | (limit >> 16) << 48 |
         std::uint64_t{descriptor.long_mode} << 53 | std::uint64_t{descriptor.default_32} << 54 |
         std::uint64_t{descriptor.page_granularity} << 55;
}

/// Null, the four above, and the upper half that a TSS descriptor has in long mode.
inline constexpr std::array<std::uint64_t, 6> kTable = {
    0, encode(kCode32Descriptor), encode(kCode64Descriptor), encode(kDataDescriptor), encode(kTssDescriptor),
    0};

}  // namespace balloon::vmm::gdt
