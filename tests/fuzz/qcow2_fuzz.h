// SPDX-License-Identifier: Apache-2.0
// One hostile qcow2 image: its header is parsed, and when that is taken, the image is opened, read, written,
// cleared and flushed. Whatever the bytes are, this returns, no table is read or written as data, and what
// tables say changes only for what the guest wrote (qcow2_tables.h).
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/qcow2_tables.h"
#include "vmm/devices/block/image.h"
#include "vmm/devices/block/qcow2_format.h"

namespace balloon::vmm {

/// A file of these bytes. Of an image in clusters of 64 KiB they are the first 512 of each cluster: else the
/// smallest such image would be longer than inputs are.
inline UniqueFd image_of(std::span<const std::byte> bytes) {
  constexpr std::size_t kPart = 512, kLarge = 65536;
  UniqueFd file(::memfd_create("qcow2", MFD_CLOEXEC));
  const bool large = bytes.size() >= 24 && load_be32(bytes.data() + 20) == 16;
  for (std::size_t cluster = 0; !bytes.empty(); ++cluster) {
    const auto part = bytes.first(std::min(bytes.size(), large ? kPart : bytes.size()));
    fuzz::require(file && ::pwrite(file.get(), part.data(), part.size(),
                                   static_cast<off_t>(cluster * kLarge)) == static_cast<ssize_t>(part.size()),
                  "writing the image");
    bytes = bytes.subspan(part.size());
  }
  return file;
}

/// What no image has before: it depends on all of it.
inline std::array<std::byte, 16> mark_of(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::uint64_t hash = std::hash<std::string_view>()(text);
  const std::uint64_t words[] = {hash | 1, ~hash};
  std::array<std::byte, 16> mark;
  std::memcpy(mark.data(), words, sizeof words);
  return mark;
}

/// Where the image says that this part of its disk lies is no table.
inline void require_no_table(Image& image, const fuzz::Qcow2Tables& tables, std::uint64_t offset,
                             std::uint64_t size) {
  while (size > 0) {
    const auto extent = image.map(offset, size, Image::Access::read);
    if (!extent) return;
    fuzz::require(extent->kind != Extent::Kind::file || !tables.touches(extent->offset, extent->size),
                  "a guest reads its image's tables");
    offset += extent->size;
    size -= extent->size;
  }
}

inline void fuzz_qcow2(std::span<const std::byte> bytes) {
  (void)parse_qcow2_header(bytes);
  const UniqueFd file = image_of(bytes);
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  const auto mark = mark_of(bytes);
  for (const bool read_only : {true, false}) {
    auto image = open_qcow2(path, read_only, false, BackingFiles::off, 0);
    if (!image) continue;
    const fuzz::Qcow2Tables tables(file.get());
    fuzz::require(read_only || tables.apart(), "an image is written whose tables lie over one another");
    const auto clusters = read_only ? fuzz::Qcow2Tables::Clusters() : tables.clusters();
    std::vector<std::byte> buffer(8192);
    for (std::size_t at = 0; at < buffer.size(); at += mark.size()) std::ranges::copy(mark, &buffer[at]);
    std::vector<fuzz::Area> written;
    const std::uint64_t size = (*image)->size();
    for (const std::uint64_t place :
         {std::uint64_t{0}, size / 2 / 512 * 512, size - std::min<std::uint64_t>(size, 4096)}) {
      const auto part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - place));
      std::vector<std::byte> read(part.size());
      (void)(*image)->read(place, read);
      if (read_only) {
        require_no_table(**image, tables, place, part.size());
        continue;
      }
      // Sparse as the file is, a forged table may ask for room far behind its end.
      written.push_back({.first = place, .end = place + part.size()});
      (void)(*image)->write(place, part);
      (void)(*image)->flush(true);
      tables.require_only(written, clusters, mark);
      (void)(*image)->write(place, part);
      (void)(*image)->zero(place, part.size(), true);
      (void)(*image)->discard(place, part.size());
      (void)(*image)->flush(true);
    }
    image->reset();
    if (!read_only) tables.require_only(written, clusters, mark);
  }
}

}  // namespace balloon::vmm
