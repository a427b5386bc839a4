// SPDX-License-Identifier: Apache-2.0
// The structures that a PVH kernel is given (xen/include/public/arch-x86/hvm/start_info.h).
#pragma once

#include <cstdint>

namespace balloon::vmm {

inline constexpr std::uint32_t kStartInfoMagic = 0x336ec578;  // "xEn3", with the high bit of the E set
inline constexpr std::uint32_t kStartInfoVersion = 1;         // with a memory map

struct StartInfo {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t flags;
  std::uint32_t module_count;
  std::uint64_t modules;
  std::uint64_t command_line;
  std::uint64_t rsdp;
  std::uint64_t memory_map;
  std::uint32_t memory_map_entries;
  std::uint32_t reserved;
};
static_assert(sizeof(StartInfo) == 56);

struct StartInfoModule {
  std::uint64_t address;
  std::uint64_t size;
  std::uint64_t command_line;
  std::uint64_t reserved;
};
static_assert(sizeof(StartInfoModule) == 32);

struct StartInfoMemory {
  std::uint64_t address;
  std::uint64_t size;
  std::uint32_t type;  ///< as in E820
  std::uint32_t reserved;
};
static_assert(sizeof(StartInfoMemory) == 24);

}  // namespace balloon::vmm
