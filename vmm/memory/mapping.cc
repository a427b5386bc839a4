// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "base/pages.h"

namespace balloon::vmm {
namespace {

constexpr Bytes kHugePage = 2 * kMiB;
/// More do not help: they wait for the same memory controller.
constexpr unsigned kMostPopulators = 8;
/// What a populating thread takes at a time: large enough that threads rarely meet.
constexpr std::size_t kPopulateStep = (64 * kMiB).count();

/// A kernel that was built without this advice says EINVAL, which costs nothing but comfort.
Result<void> advise(std::span<std::byte> host, int advice, const char* what) {
  if (::madvise(host.data(), host.size(), advice) == 0 || errno == EINVAL) return {};
  return fail_errno(fmt::format("madvise({}) of {} of guest memory", what, format_bytes(Bytes{host.size()})),
                    errno);
}

/// Address space of `size` bytes at a multiple of `align`; mmap itself promises 4 KiB (Linux before 6.7).
Result<std::byte*> reserve_addresses(std::size_t size, std::size_t align) {
  const std::size_t padded = size + align;
  void* address = ::mmap(nullptr, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED)
    return fail_errno(fmt::format("mapping {} of guest memory", format_bytes(Bytes{size})), errno);
  auto* start = static_cast<std::byte*>(address);
  const std::size_t skip = (align - reinterpret_cast<std::uintptr_t>(start) % align) % align;
  if (skip > 0) ::munmap(start, skip);
  ::munmap(start + skip + size, padded - skip - size);
  return start + skip;
}

Result<UniqueFd> make_file(Bytes size, HugePages huge_pages) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (huge_pages == HugePages::two_mib) flags |= MFD_HUGETLB | MFD_HUGE_2MB;
  if (huge_pages == HugePages::one_gib) flags |= MFD_HUGETLB | MFD_HUGE_1GB;
  UniqueFd file(::memfd_create("guest-memory", flags));
  if (!file) return fail_errno("making a file of guest memory", errno);
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
    return fail_errno(fmt::format("making a file of {} of guest memory", format_bytes(size)), errno);
  // Whoever shares it cannot make it shorter under our feet (SIGBUS).
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return fail_errno("sealing the file of guest memory", errno);
  return file;
}

Result<void> lock(std::span<std::byte> host) {
  // As pages come, so that the balloon's stay away.
  if (::mlock2(host.data(), host.size(), MLOCK_ONFAULT) != 0) {
    return fail_errno(
        fmt::format("locking {} of guest memory (is the limit of locked memory, RLIMIT_MEMLOCK, "
                    "high enough?)",
                    format_bytes(Bytes{host.size()})),
        errno);
  }
  if (::madvise(host.data(), 0, MADV_DONTNEED_LOCKED) != 0)
    return fail("locked guest memory: this kernel cannot release it again, Linux 5.18 or later can");
  return {};
}

Result<void> set_up(const Mapping& mapping, const MemoryBacking& backing) {
  if (backing.huge_pages == HugePages::transparent)
    BALLOON_TRY(advise(mapping.host, MADV_HUGEPAGE, "HUGEPAGE"));
  if (backing.huge_pages == HugePages::off) BALLOON_TRY(advise(mapping.host, MADV_NOHUGEPAGE, "NOHUGEPAGE"));
  // A core dump of the VMM must not hold the guest's secrets, nor gigabytes.
  BALLOON_TRY(advise(mapping.host, MADV_DONTDUMP, "DONTDUMP"));
  // Pool pages never swap.
  if (backing.lock && !from_pool(backing.huge_pages)) BALLOON_TRY(lock(mapping.host));
  if (backing.preallocate) BALLOON_TRY(populate(mapping.host));
  return {};
}

}  // namespace

Result<Mapping> map_memory(Bytes size, const MemoryBacking& backing) {
  const bool pool = from_pool(backing.huge_pages);
  Mapping mapping;
  // Pool pages are a file too: a hole can be punched into it on every kernel.
  if (backing.shared || pool) {
    auto file = make_file(size, backing.huge_pages);
    if (!file) return std::unexpected(file.error());
    mapping.file = std::move(*file);
  }
  const auto addresses =
      reserve_addresses(size.count(), std::max(kHugePage, page_size(backing.huge_pages)).count());
  if (!addresses) return std::unexpected(addresses.error());
  int flags = MAP_FIXED | (mapping.file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  // What the host can spare is the daemon's decision, not the kernel's commit heuristic. Not so for a pool: a
  // guest that touches a page of an empty pool dies.
  if (!pool && !backing.reserve && !backing.preallocate) flags |= MAP_NORESERVE;
  const int fd = mapping.file ? mapping.file.get() : -1;
  if (::mmap(*addresses, size.count(), PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
    const int error = errno;
    ::munmap(*addresses, size.count());
    return fail_errno(pool ? fmt::format("taking {} of guest memory from the host's pool of {} pages (see "
                                         "/sys/kernel/mm/hugepages; vm.nr_hugepages enlarges that of 2 MiB)",
                                         format_bytes(size), format_bytes(page_size(backing.huge_pages)))
                           : fmt::format("mapping {} of guest memory", format_bytes(size)),
                      error);
  }
  mapping.host = std::span(*addresses, size.count());
  if (auto done = set_up(mapping, backing); !done) {
    ::munmap(*addresses, size.count());
    return std::unexpected(std::move(done.error()));
  }
  return mapping;
}

Result<void> populate(std::span<std::byte> host) {
  std::atomic<std::size_t> next = 0;
  std::atomic<int> error = 0;
  const auto work = [&] {
    for (std::size_t at = next.fetch_add(kPopulateStep); at < host.size() && error == 0;
         at = next.fetch_add(kPopulateStep)) {
      const auto piece = host.subspan(at, std::min(kPopulateStep, host.size() - at));
      while (::madvise(piece.data(), piece.size(), MADV_POPULATE_WRITE) != 0) {
        if (errno == EINTR) continue;
        error = errno;
        return;
      }
    }
  };
  {
    const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1U, kMostPopulators);
    std::vector<std::jthread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }
  if (error == 0) return {};
  return fail_errno(
      fmt::format("preallocating {} of guest memory (needs Linux 5.14)", format_bytes(Bytes{host.size()})),
      error);
}

Bytes resident_bytes(std::span<const std::byte> host) {
  constexpr std::size_t kPage = balloon::kPageSize.count();
  std::array<unsigned char, 4096> pages;  // one byte tells of a page: 16 MiB a call
  Bytes resident{};
  for (std::size_t at = 0; at < host.size(); at += pages.size() * kPage) {
    const std::size_t size = std::min(host.size() - at, pages.size() * kPage);
    if (::mincore(const_cast<std::byte*>(host.data()) + at, size, pages.data()) != 0) continue;
    const auto there = std::ranges::count_if(std::span(pages).first(size / kPage),
                                             [](unsigned char page) { return (page & 1) != 0; });
    resident += there * balloon::kPageSize;
  }
  return resident;
}

}  // namespace balloon::vmm
