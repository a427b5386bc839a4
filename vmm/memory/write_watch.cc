// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/write_watch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace balloon::vmm {
namespace {

/// How much is looked at, and how much a writer makes writable, at a time: a transparent huge page is
/// protected as a whole.
constexpr std::uint64_t kPiece = kHugePageSize;
constexpr std::size_t kPieceMaxPages = kPiece / kPageSize;

// Entries of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
constexpr std::uint64_t kPageWriteProtected = 1ULL << 57;
constexpr std::uint64_t kPagePresent = 1ULL << 63;
constexpr std::uint64_t kPageSwapped = 1ULL << 62;

std::uint64_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

bool all_zeros(std::span<const std::byte> page) {
  return std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{0}; });
}

Result<UniqueFd> open_faults(const GuestMemory& memory) {
  UniqueFd faults(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (!faults) {
    return fail_errno(
        "opening a userfaultfd (it needs CAP_SYS_PTRACE, or the host's sysctl "
        "vm.unprivileged_userfaultfd=1)",
        errno);
  }
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
  if (memory.backing().shared) api.features |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  if (::ioctl(faults.get(), UFFDIO_API, &api) != 0)
    return fail_errno("userfaultfd: this kernel has no write protection for such memory", errno);
  for (const GuestMemory::Region& region : memory.regions()) {
    uffdio_register request{};
    request.range = {.start = number(region.host.data()), .len = region.host.size()};
    request.mode = UFFDIO_REGISTER_MODE_WP;
    if (::ioctl(faults.get(), UFFDIO_REGISTER, &request) != 0)
      return fail_errno("watching the writes to guest memory", errno);
  }
  return faults;
}

}  // namespace

Result<std::unique_ptr<WriteWatch>> WriteWatch::start(const GuestMemory& memory) {
  if (from_pool(memory.backing().huge_pages))
    return fail("watching the writes to guest memory: not with pages of a pool");
  auto faults = open_faults(memory);
  if (!faults) return std::unexpected(faults.error());
  UniqueFd page_map(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!page_map) return fail_errno("opening /proc/self/pagemap", errno);
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return fail_errno("making an eventfd", errno);
  // From here on the thread lets writers pass, so that protecting region by region stops nobody.
  std::unique_ptr<WriteWatch> watch(
      new WriteWatch(memory, std::move(*faults), std::move(page_map), std::move(stop)));
  for (const GuestMemory::Region& region : memory.regions()) BALLOON_TRY(watch->protect(region.host, true));
  return watch;
}

WriteWatch::WriteWatch(const GuestMemory& memory, UniqueFd faults, UniqueFd page_map, UniqueFd stop)
    : memory_(memory),
      faults_(std::move(faults)),
      page_map_(std::move(page_map)),
      stop_(std::move(stop)),
      thread_([this] { serve(); }) {}

WriteWatch::~WriteWatch() {
  // Closing the userfaultfd makes all pages writable and wakes who waits (fs/userfaultfd.c,
  // userfaultfd_release()); until then the thread serves them.
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
  for (const GuestMemory::Region& region : memory_.regions()) {
    [[maybe_unused]] const auto done = protect(region.host, false);
  }
}

void WriteWatch::serve() {
  std::array<pollfd, 2> polls{{{.fd = faults_.get(), .events = POLLIN, .revents = 0},
                               {.fd = stop_.get(), .events = POLLIN, .revents = 0}}};
  while ((polls[1].revents & POLLIN) == 0) {
    if (::poll(polls.data(), polls.size(), -1) < 0) continue;
    uffd_msg message;
    while (::read(faults_.get(), &message, sizeof message) == sizeof message) {
      if (message.event == UFFD_EVENT_PAGEFAULT) let_writers_pass(message.arg.pagefault.address);
    }
  }
}

void WriteWatch::let_writers_pass(std::uint64_t address) {
  const MutexLock lock(mutex_);
  for (const GuestMemory::Region& region : memory_.regions()) {
    const std::uint64_t start = number(region.host.data());
    if (address < start || address - start >= region.host.size()) continue;
    const std::size_t offset = (address - start) / kPiece * kPiece;
    const auto piece =
        region.host.subspan(offset, std::min<std::size_t>(kPiece, region.host.size() - offset));
    // It fails only when the region is no longer registered, and then nobody waits.
    [[maybe_unused]] const auto done = protect(piece, false);
  }
}

Result<void> WriteWatch::protect(std::span<std::byte> host, bool on) const {
  uffdio_writeprotect request{};
  request.range = {.start = number(host.data()), .len = host.size()};
  request.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
  while (::ioctl(faults_.get(), UFFDIO_WRITEPROTECT, &request) != 0) {
    if (errno != EAGAIN && errno != EINTR) return fail_errno("protecting guest memory from writes", errno);
  }
  return {};
}

Result<GuestMemory::Released> WriteWatch::release_unwritten(GuestRange range) {
  GuestMemory::Released sum;
  for (const GuestMemory::Region& region : memory_.regions()) {
    const GuestAddress end = std::min(range.start + range.size, region.start + region.host.size());
    for (GuestAddress at = std::max(range.start, region.start); at < end;) {
      const GuestAddress next = std::min(end, (at / kPiece + 1) * kPiece);
      const MutexLock lock(mutex_);
      BALLOON_TRY(release_piece(at, region.host.subspan(at - region.start, next - at), sum));
      at = next;
    }
  }
  return sum;
}

Result<void> WriteWatch::release_piece(GuestAddress start, std::span<std::byte> host,
                                       GuestMemory::Released& sum) {
  const std::size_t pages = host.size() / kPageSize;
  sum.ram += Bytes{host.size()};
  std::array<std::uint64_t, kPieceMaxPages> entries;
  const auto bytes = static_cast<ssize_t>(pages * sizeof(std::uint64_t));
  if (::pread(page_map_.get(), entries.data(), static_cast<std::size_t>(bytes),
              static_cast<off_t>(number(host.data()) / kPageSize * sizeof(std::uint64_t))) != bytes)
    return fail_errno("reading /proc/self/pagemap", errno);
  // Whatever was written: from here on it stays as it is until the end of this function.
  BALLOON_TRY(protect(host, true));
  const auto droppable = [&](std::size_t page) {
    if ((entries[page] & (kPagePresent | kPageSwapped)) == 0) return false;  // nothing to gain
    return (entries[page] & kPageWriteProtected) != 0 ||
           ((entries[page] & kPagePresent) != 0 && all_zeros(host.subspan(page * kPageSize, kPageSize)));
  };
  Result<void> done;
  for (std::size_t page = 0; page < pages && done;) {
    std::size_t last = page;
    while (last < pages && droppable(last)) ++last;
    if (last > page) {
      const auto released = memory_.release({start + page * kPageSize, (last - page) * kPageSize});
      if (released) {
        sum.released += released->released;
        sum.freed += released->freed;
      } else {
        done = std::unexpected(released.error());
      }
    }
    page = last + 1;
  }
  BALLOON_TRY(protect(host, false));
  return done;
}

}  // namespace balloon::vmm
