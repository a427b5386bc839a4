// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "vmm/arch/x86_64/gdt.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/elf_pvh.h"
#include "vmm/boot/file_kind.h"
#include "vmm/boot/input_file.h"

namespace balloon::vmm {

Result<BootFiles> open_boot_files(const BootSource& source) {
  auto kernel = InputFile::open("kernel", source.kernel);
  if (!kernel) return std::unexpected(std::move(kernel.error()));
  BootFiles files{.kernel = std::move(*kernel), .initrd = {}, .command_line = source.command_line};
  if (!source.initrd) return files;
  auto initrd = InputFile::open("initrd", *source.initrd);
  if (!initrd) return std::unexpected(std::move(initrd.error()));
  files.initrd = std::move(*initrd);
  return files;
}

Result<BootEntry> load_kernel(const GuestMemory& memory, const BootFiles& files) {
  const InputFile& file = files.kernel;
  std::array<std::byte, kFileKindBytes> buffer;
  std::span start(buffer.data(),
                  static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), buffer.size())));
  BALLOON_TRY(file.read(0, start, "the start of the file"));

  if (!memory.write(layout::kGdt, gdt::kTable)) return fail("guest memory has no room for the GDT");
  if (looks_like_bzimage(start)) return load_bzimage(memory, files);
  if (looks_like_elf(start)) return load_elf(memory, files);
  return fail(fmt::format(
      "{}: not a kernel that can be booted: it looks like {}; an x86-64 bzImage or an ELF vmlinux is needed",
      file.name(), describe_contents(start)));
}

}  // namespace balloon::vmm
