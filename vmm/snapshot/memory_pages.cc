// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/memory_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"

namespace balloon::vmm {
namespace {

// Bits of an entry of /proc/self/pagemap (linux/Documentation/admin-guide/mm/pagemap.rst).
constexpr std::uint64_t kPresent = 1ULL << 63;
constexpr std::uint64_t kSwapped = 1ULL << 62;
/// Entries read at once: of 2 MiB of memory.
constexpr std::size_t kBatch = kHugePageSize / kPageSize;

bool all_zero(std::span<const std::byte> page) {
  // Compared with itself, shifted by one: as fast as memcmp is.
  return page[0] == std::byte{0} && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

/// Which of `count` pages from `host` on the process has, in memory or swap.
class Pagemap {
 public:
  static Result<Pagemap> open() {
    UniqueFd fd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (!fd) return fail_errno("opening /proc/self/pagemap", errno);
    return Pagemap(std::move(fd));
  }
  Result<void> read(const std::byte* host, std::span<bool> has) {
    std::array<std::uint64_t, kBatch> entries{};
    const auto bytes = std::as_writable_bytes(std::span(entries).first(has.size()));
    const auto at = reinterpret_cast<std::uintptr_t>(host) / kPageSize * sizeof(std::uint64_t);
    if (::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)) !=
        static_cast<ssize_t>(bytes.size()))
      return fail_errno("reading /proc/self/pagemap", errno);
    for (std::size_t i = 0; i < has.size(); ++i) has[i] = (entries[i] & (kPresent | kSwapped)) != 0;
    return {};
  }

 private:
  explicit Pagemap(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// The same of a file's pages: those that lie in a hole are none. Other processes' maps do not matter.
Result<void> file_pages(int file, std::uint64_t offset, std::span<bool> has) {
  std::ranges::fill(has, false);
  const auto end = static_cast<off_t>(offset + has.size() * kPageSize);
  for (auto at = static_cast<off_t>(offset); at < end;) {
    const off_t data = ::lseek(file, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};  // nothing but a hole up to the end
    if (data < 0) return fail_errno("looking for data in the guest memory's file", errno);
    if (data >= end) return {};
    const off_t hole = std::min(::lseek(file, data, SEEK_HOLE), end);
    if (hole < 0) return fail_errno("looking for holes in the guest memory's file", errno);
    const auto page = [&](off_t place) { return (static_cast<std::uint64_t>(place) - offset) / kPageSize; };
    std::ranges::fill(has.subspan(page(data), page(hole + static_cast<off_t>(kPageSize) - 1) - page(data)),
                      true);
    at = hole;
  }
  return {};
}

}  // namespace

Result<void> for_each_used(
    const GuestMemory& memory, std::uint64_t longest,
    const std::function<Result<void>(GuestAddress, std::span<const std::byte>)>& each) {
  auto pagemap = Pagemap::open();
  if (!pagemap) return std::unexpected(pagemap.error());
  std::array<bool, kBatch> has{};
  // hugetlbfs does not know its holes, and reading one takes a page from the pool, or dies of an empty one.
  const bool ask_file = !from_pool(memory.backing().huge_pages);
  for (const GuestMemory::Region& region : memory.regions()) {
    std::uint64_t run = 0;  // where the run under way starts
    std::uint64_t size = 0;
    const auto flush = [&]() -> Result<void> {
      if (size == 0) return {};
      const auto done = each(region.start + run, region.host.subspan(run, size));
      size = 0;
      return done;
    };
    for (std::uint64_t offset = 0; offset < region.host.size();) {
      const auto pages = std::min<std::uint64_t>(kBatch, (region.host.size() - offset) / kPageSize);
      const auto batch = std::span(has).first(pages);
      BALLOON_TRY(region.file && ask_file ? file_pages(region.file.get(), offset, batch)
                                          : pagemap->read(region.host.data() + offset, batch));
      for (const bool there : batch) {
        if (there && !all_zero(region.host.subspan(offset, kPageSize))) {
          if (size == 0) run = offset;
          size += kPageSize;
          if (size >= longest) BALLOON_TRY(flush());
        } else {
          BALLOON_TRY(flush());
        }
        offset += kPageSize;
      }
    }
    BALLOON_TRY(flush());
  }
  return {};
}

}  // namespace balloon::vmm
