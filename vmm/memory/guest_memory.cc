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

Result<std::span<std::byte>> map_anonymous(Bytes size) {
  // NORESERVE: what the host can spare is the daemon's decision, not the kernel's commit heuristic.
  void* address =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return fail_errno(fmt::format("mapping {} of guest memory", format_bytes(size)), errno);
  }
  return std::span(static_cast<std::byte*>(address), size);
}

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
    // Inflating 4 KiB pages out of a transparent huge page frees nothing until the host splits it.
    BALLOON_TRY(advise(*host, MADV_NOHUGEPAGE, "NOHUGEPAGE"));
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
    if (::madvise(host.data(), host.size(), MADV_DONTNEED) != 0) {
      return fail_errno(fmt::format("releasing guest memory at {:#x}, {:#x} bytes", start, host.size()),
                        errno);
    }
    released += host.size();
  }
  return released;
}

}  // namespace balloon::vmm
