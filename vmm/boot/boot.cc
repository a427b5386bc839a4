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

Result<BootEntry> load_kernel(const GuestMemory& memory, const BootSource& source) {
  auto file = InputFile::open("kernel", source.kernel);
  if (!file) return std::unexpected(file.error());
  std::array<std::byte, kFileKindBytes> buffer;
  std::span start(buffer.data(),
                  static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), buffer.size())));
  BALLOON_TRY(file->read(0, start, "the start of the file"));

  if (!memory.write(layout::kGdt, gdt::kTable)) return fail("guest memory has no room for the GDT");
  if (looks_like_bzimage(start)) return load_bzimage(memory, *file, source);
  if (looks_like_elf(start)) return load_elf(memory, *file, source);
  return fail(fmt::format(
      "{}: not a kernel that can be booted: it looks like {}; an x86-64 bzImage or an ELF vmlinux is needed",
      file->name(), describe_contents(start)));
}

}  // namespace balloon::vmm
