// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/page_tables.h"

#include <array>
#include <cstdint>

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

// Intel SDM volume 3, tables 4-15 to 4-18.
constexpr std::uint64_t kPresent = 1 << 0;
constexpr std::uint64_t kWritable = 1 << 1;
constexpr std::uint64_t kLargePage = 1 << 7;
constexpr std::uint64_t kLargePageSize = (2 * kMiB).count();
constexpr std::size_t kEntries = 512;
constexpr std::size_t kDirectories = 4;  // 1 GiB each

using Table = std::array<std::uint64_t, kEntries>;

}  // namespace

Result<void> write_identity_map(const GuestMemory& memory) {
  std::array<Table, 2 + kDirectories> tables{};
  constexpr GuestAddress kPdpt = layout::kPageTables + sizeof(Table);
  constexpr GuestAddress kFirstDirectory = kPdpt + sizeof(Table);
  tables[0][0] = kPdpt | kPresent | kWritable;
  for (std::size_t directory = 0; directory < kDirectories; ++directory) {
    tables[1][directory] = (kFirstDirectory + directory * sizeof(Table)) | kPresent | kWritable;
    for (std::size_t entry = 0; entry < kEntries; ++entry) {
      std::uint64_t page = directory * kEntries + entry;
      tables[2 + directory][entry] = page * kLargePageSize | kPresent | kWritable | kLargePage;
    }
  }
  if (!memory.write(layout::kPageTables, tables)) return fail("guest memory has no room for page tables");
  return {};
}

}  // namespace balloon::vmm
