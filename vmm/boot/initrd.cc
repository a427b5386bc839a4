// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/initrd.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "vmm/boot/input_file.h"

namespace balloon::vmm {

Result<GuestAddress> place_initrd(std::uint64_t size, GuestAddress floor, GuestAddress ceiling) {
  std::uint64_t room = ceiling > floor ? ceiling - floor : 0;
  if (size <= room) {
    GuestAddress start = (ceiling - size) & ~(kPageSize - 1);
    if (start >= floor) return start;
  }
  return fail(
      fmt::format("too large: {} ({} bytes), but {} bytes are left between the kernel's end {:#x} and {:#x}",
                  format_bytes(Bytes{size}), size, room, floor, ceiling));
}

Result<GuestRange> load_initrd(const GuestMemory& memory, const InputFile& file, GuestAddress kernel_end,
                               GuestAddress ceiling) {
  auto start = place_initrd(file.size(), kernel_end, ceiling);
  if (!start) return fail(file.name(), start.error());
  auto room = memory.at(*start, file.size());
  if (!room)
    return fail(fmt::format("{}: guest memory has no {} bytes at {:#x}", file.name(), file.size(), *start));
  BALLOON_TRY(file.read(0, *room, "the whole file"));
  return GuestRange{*start, file.size()};
}

}  // namespace balloon::vmm
