#include "vmm/memory/guest_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

constexpr Bytes kMinimumSize = kMiB;

/// Keeps the advice's error apart from "this kernel was built without it" (EINVAL), which costs nothing but
/// comfort.
Result<void> advise(std::span<std::byte> host, int advice, const char* what) {
  if (::madvise(host.data(), host.size(), advice) == 0 || errno == EINVAL) return {};
  return fail_errno(fmt::format("madvise({}) of {} of guest memory", what, format_bytes(host.size())), errno);
}

/// Maps `size` bytes at a multiple of the huge page size, so that guest and host agree where huge pages
/// start. Host and guest addresses must be equal modulo a huge page: only then can KVM map huge pages into
/// the guest, and each of them saves 512 nested faults. Regions start at multiples of it in the guest; mmap
/// promises only 4 KiB (Linux before 6.7).

Result<std::span<std::byte>> map_anonymous(Bytes size) {
  // NORESERVE: what the host can spare is the daemon's decision, not the kernel's commit heuristic.
  const Bytes padded = size + kHugePageSize;
  void* address =
      ::mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return fail_errno(fmt::format("mapping {} of guest memory", format_bytes(size)), errno);
  }
  auto* start = static_cast<std::byte*>(address);
  const Bytes skip =
      (kHugePageSize - reinterpret_cast<std::uintptr_t>(start) % kHugePageSize) % kHugePageSize;
  if (skip > 0) ::munmap(start, skip);
  ::munmap(start + skip + size, padded - skip - size);
  return std::span(start + skip, size);
}

/// MADV_DONTNEED of a part of a transparent huge page only unmaps it: the host gets nothing back until all of
/// it is unmapped, or memory is so short that deferred_split_scan() (mm/huge_memory.c) comes by. MADV_FREE of
/// a part splits the page itself, there and then (madvise_free_huge_pmd(), madvise_free_pte_range()). `page`
/// is released next; so nothing is lost, and a failure only costs time.
void split_huge_page(std::byte* page) { ::madvise(page, kPageSize, MADV_FREE); }

}  // namespace

Result<GuestMemory> GuestMemory::create(Bytes size) {
  if (size < kMinimumSize || size % kPageSize != 0) {
    return fail(fmt::format("guest memory of {} bytes: must be a multiple of {} and at least {}", size,
                            kPageSize, format_bytes(kMinimumSize)));
  }
  GuestMemory memory;
  memory.size_ = size;
  const Bytes low = std::min<Bytes>(size, layout::kPciHoleStart);
  for (const GuestRange range : {GuestRange{0, low}, GuestRange{layout::kHighMemoryStart, size - low}}) {
    if (range.size == 0) continue;
    auto host = map_anonymous(range.size);
    if (!host) return std::unexpected(std::move(host.error()));
    memory.regions_.push_back({range.start, *host});
    // One fault for 2 MiB instead of 512. The balloon releases whole huge pages where it can
    // (devices/balloon).
    BALLOON_TRY(advise(*host, MADV_HUGEPAGE, "HUGEPAGE"));
    // A core dump of the VMM must not hold the guest's secrets, nor gigabytes.
    BALLOON_TRY(advise(*host, MADV_DONTDUMP, "DONTDUMP"));
  }
  return memory;
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : size_(std::exchange(other.size_, 0)), regions_(std::exchange(other.regions_, {})) {}

GuestMemory::~GuestMemory() {
  for (const Region& region : regions_) ::munmap(region.host.data(), region.host.size());
}

std::optional<std::span<std::byte>> GuestMemory::at(GuestAddress address, std::uint64_t size) const {
  for (const Region& region : regions_) {
    if (address < region.start) continue;
    const std::uint64_t offset = address - region.start;
    // In this order neither side can wrap.
    if (offset > region.host.size() || size > region.host.size() - offset) continue;
    return region.host.subspan(offset, size);
  }
  return std::nullopt;
}

bool GuestMemory::read(GuestAddress address, std::span<std::byte> into) const {
  const auto host = at(address, into.size());
  if (!host) return false;
  if (!into.empty()) std::memcpy(into.data(), host->data(), into.size());
  return true;
}

bool GuestMemory::write(GuestAddress address, std::span<const std::byte> from) const {
  const auto host = at(address, from.size());
  if (!host) return false;
  if (!from.empty()) std::memcpy(host->data(), from.data(), from.size());
  return true;
}

Result<Bytes> GuestMemory::release(GuestRange range) const {
  if (range.start % kPageSize != 0 || range.size % kPageSize != 0 || range.start + range.size < range.start) {
    return fail(fmt::format("releasing guest memory at {:#x}, {:#x} bytes: not whole pages, or it wraps",
                            range.start, range.size));
  }
  Bytes released = 0;
  for (const Region& region : regions_) {
    const GuestAddress start = std::max(range.start, region.start);
    const GuestAddress end = std::min(range.start + range.size, region.start + region.host.size());
    if (start >= end) continue;
    const std::span<std::byte> host = region.host.subspan(start - region.start, end - start);
    if (start % kHugePageSize != 0) split_huge_page(host.data());
    if (end % kHugePageSize != 0) split_huge_page(host.data() + host.size() - kPageSize);
    if (::madvise(host.data(), host.size(), MADV_DONTNEED) != 0) {
      return fail_errno(fmt::format("releasing guest memory at {:#x}, {:#x} bytes", start, host.size()),
                        errno);
    }
    released += host.size();
  }
  return released;
}

}  // namespace balloon::vmm
