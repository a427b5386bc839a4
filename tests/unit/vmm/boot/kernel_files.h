// SPDX-License-Identifier: Apache-2.0
// Kernel files made up by tests: small, well-formed unless a test spoils a field.
#pragma once

#include <asm/bootparam.h>
#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/boot/boot.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

using FileBytes = std::vector<std::byte>;

/// A directory that goes away with the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  /// Writes a file and returns its path.
  std::string file(std::string_view name, std::span<const std::byte> bytes) const;
  std::string file(std::string_view name, std::string_view text) const;

 private:
  std::string path_;
};

/// A bzImage: one setup sector and `payload_size` bytes of payload with a recognisable pattern.
struct FakeBzImage {
  setup_header header;
  std::size_t payload_size;
  explicit FakeBzImage(std::size_t payload = 64 * 1024);
  std::size_t payload_offset() const { return (header.setup_sects + std::size_t{1}) * 512; }
  FileBytes bytes() const;
};

struct FakeSegment {
  Elf64_Phdr header;
  FileBytes bytes;
};

/// An ELF kernel with a code segment, a data segment with a zeroed tail, and a PVH note.
struct FakeElf {
  Elf64_Ehdr header;
  std::vector<FakeSegment> segments;
  FakeElf();
  FakeSegment& code() { return segments[0]; }
  FakeSegment& data() { return segments[1]; }
  FakeSegment& note() { return segments[2]; }
  /// Gives the segments their places in the file.
  void lay_out();
  FileBytes bytes() const;
};

inline constexpr GuestAddress kFakeElfEntry = 0x1000040;

/// One ELF note, padded to 4.
FileBytes elf_note(std::string_view name, std::uint32_t type, std::span<const std::byte> description);

template <typename T>
FileBytes bytes_of(const T& value) {
  FileBytes bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// Byte `index` of test patterns: never repeats within a page, so that shifted data is noticed.
inline std::byte pattern(std::size_t index) { return static_cast<std::byte>(index * 7 + index / 251); }

/// Guest memory of that size, which must be had.
GuestMemory guest_memory(Bytes size);

/// The bytes at a guest address, copied.
FileBytes guest_bytes(const GuestMemory& memory, GuestAddress address, std::size_t size);

/// Opens the files and loads them.
inline Result<BootEntry> boot(const GuestMemory& memory, const BootSource& source) {
  const auto files = open_boot_files(source);
  if (!files) return std::unexpected(files.error());
  return load_kernel(memory, *files);
}

}  // namespace balloon::vmm
