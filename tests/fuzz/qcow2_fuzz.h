// SPDX-License-Identifier: Apache-2.0
// One hostile qcow2 image: its header is parsed, and when that is taken, the image is opened, read, written,
// cleared and flushed. Whatever the bytes are, this returns, and what the guest wrote is nowhere in the
// header.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/devices/block/image.h"
#include "vmm/devices/block/qcow2_format.h"

namespace balloon::vmm {

/// The header's fields up to the features that a writer clears (byte 88), which a guest must never reach.
inline std::vector<std::byte> start_of(int file) {
  std::vector<std::byte> bytes(88);
  fuzz::require(::pread(file, bytes.data(), bytes.size(), 0) >= 0, "reading the image");
  return bytes;
}

inline void fuzz_qcow2(std::span<const std::byte> bytes) {
  (void)parse_qcow2_header(bytes);
  const UniqueFd file(::memfd_create("qcow2", MFD_CLOEXEC));
  fuzz::require(file && ::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
                "writing the image");
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  for (const bool read_only : {true, false}) {
    auto image = open_qcow2(path, read_only, false, BackingFiles::off, 0);
    if (!image) continue;
    std::vector<std::byte> buffer(8192, std::byte{0x5a});
    const std::vector<std::byte> header = start_of(file.get());
    const std::uint64_t size = (*image)->size();
    for (const std::uint64_t place :
         {std::uint64_t{0}, size / 2 / 512 * 512, size - std::min<std::uint64_t>(size, 4096)}) {
      const auto part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - place));
      (void)(*image)->read(place, part);
      if (read_only) continue;
      // Sparse as the file is, a forged table may ask for room far behind its end.
      (void)(*image)->write(place, part);
      (void)(*image)->zero(place, part.size(), true);
      (void)(*image)->discard(place, part.size());
      (void)(*image)->flush(true);
      // Of a header nothing changes but the features that a writer clears.
      fuzz::require(start_of(file.get()) == header, "a guest changed its image's header");
    }
  }
}

}  // namespace balloon::vmm
