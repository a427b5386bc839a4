// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/file_kind.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace balloon::vmm {
namespace {

using namespace std::string_view_literals;

struct Magic {
  std::size_t offset;
  std::string_view bytes;
  std::string_view meaning;
};

// From file formats' own definitions; the first that matches counts, so the narrower come first.
constexpr std::array kMagics = {
    Magic{0, "\x1f\x8b"sv, "a gzip file; unpack it first (an arm64 or vmlinux.gz kernel?)"},
    Magic{0,
          "\xfd"
          "7zXZ\0"sv,
          "an xz file; unpack it first"},
    Magic{0, "\x28\xb5\x2f\xfd"sv, "a zstd file; unpack it first"},
    Magic{0, "\x04\x22\x4d\x18"sv, "an lz4 file; unpack it first"},
    Magic{0, "\x02\x21\x4c\x18"sv, "an lz4 (legacy) file; unpack it first"},
    Magic{0, "BZh"sv, "a bzip2 file; unpack it first"},
    Magic{0, "070701"sv, "an initramfs (cpio archive)"},
    Magic{0, "070702"sv, "an initramfs (cpio archive)"},
    Magic{0, "QFI\xfb"sv, "a qcow2 disk image"},
    Magic{0, "!<arch>\n"sv, "an archive (.deb or .a)"},
    Magic{0x38, "ARM\x64"sv, "a kernel Image for arm64"},
    Magic{4, "zimg"sv, "an EFI zboot image, not for x86-64"},
    Magic{0x202, "HdrS"sv, "a Linux kernel without the 0xaa55 boot signature"},
    Magic{0, "MZ"sv, "an EFI or DOS program without a Linux setup header"},
    Magic{510, "\x55\xaa"sv, "a boot sector or disk image without a Linux setup header"},
    Magic{0, "#!"sv, "a script"},
};

bool is_text(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= ' ' && c <= '~') || c == '\n' || c == '\r' || c == '\t'; });
}

}  // namespace

std::string describe_contents(std::span<const std::byte> start) {
  std::string_view text(reinterpret_cast<const char*>(start.data()), start.size());
  if (text.empty()) return "empty";
  for (const Magic& magic : kMagics) {
    if (text.size() >= magic.offset && text.substr(magic.offset).starts_with(magic.bytes))
      return std::string(magic.meaning);
  }
  if (std::ranges::all_of(text, [](char c) { return c == '\0'; })) return "zeros";
  if (is_text(text)) return "text";
  return "unknown data";
}

}  // namespace balloon::vmm
