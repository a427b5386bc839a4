// SPDX-License-Identifier: Apache-2.0
// A kernel that somebody else made, and its initrd: it is loaded, or refused with a reason.
#include <sys/mman.h>

#include <cstring>

#include "base/unique_fd.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/boot/kernel_files.h"
#include "vmm/boot/boot.h"

namespace balloon::vmm::fuzz {
namespace {

constexpr Bytes kMemory = 64 * kMiB;

std::string file_of(const UniqueFd& file, std::span<const std::uint8_t> bytes) {
  require(file && ::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "writing the kernel");
  return "/proc/self/fd/" + std::to_string(file.get());
}

void run(std::span<const std::uint8_t> bytes) {
  static const GuestMemory memory = *GuestMemory::create(kMemory);
  const UniqueFd kernel(::memfd_create("kernel", MFD_CLOEXEC)), initrd(::memfd_create("initrd", MFD_CLOEXEC));
  const BootSource source{.kernel = file_of(kernel, bytes),
                          .initrd = file_of(initrd, bytes.first(std::min<std::size_t>(bytes.size(), 100))),
                          .command_line = "console=ttyS0"};
  const auto files = open_boot_files(source);
  if (files) {
    const auto entry = load_kernel(memory, *files);
    if (entry) require(memory.at(entry->parameters, 1).has_value(), "the parameters lie outside of RAM");
    if (!entry) require(!entry.error().message.empty(), "no reason is given");
  }
  for (const GuestMemory::Region& region : memory.regions())
    (void)memory.release({region.start, region.host.size()});
}

}  // namespace

std::vector<Bytes8> seeds() {
  const auto bytes_of = [](const FileBytes& file) {
    Bytes8 bytes(file.size());
    std::memcpy(bytes.data(), file.data(), file.size());
    return bytes;
  };
  return {bytes_of(FakeBzImage(1024).bytes()), bytes_of(FakeElf().bytes())};
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace balloon::vmm::fuzz;
  const Limits limits;
  run(std::span(data, size));
  return 0;
}
