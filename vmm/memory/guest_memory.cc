// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/guest_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/mman.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/memory/mapping.h"

namespace balloon::vmm {
namespace {

constexpr Bytes kMinimumSize = kMiB;

/// MADV_DONTNEED of a part of a transparent huge page only unmaps it: the host gets nothing back until all of
/// it is unmapped, or memory is so short that deferred_split_scan() (mm/huge_memory.c) comes by. MADV_FREE of
/// a part splits the page itself, there and then (madvise_free_huge_pmd(), madvise_free_pte_range()). `page`
/// is released next; so nothing is lost, and a failure only costs time.
void split_huge_page(std::byte* page) { ::madvise(page, kPageSize, MADV_FREE); }

}  // namespace

Result<GuestMemory> GuestMemory::create(Bytes size, const MemoryBacking& backing) {
  if (size < kMinimumSize || size % balloon::kPageSize != Bytes{0}) {
    return fail(fmt::format("guest memory of {} bytes: must be a multiple of {} and at least {}",
                            size.count(), kPageSize, format_bytes(kMinimumSize)));
  }
  BALLOON_TRY(check_backing(backing, size));
  GuestMemory memory;
  memory.size_ = size;
  memory.backing_ = backing;
  const std::uint64_t low = std::min<std::uint64_t>(size.count(), layout::kPciHoleStart);
  for (const GuestRange range :
       {GuestRange{0, low}, GuestRange{layout::kHighMemoryStart, size.count() - low}}) {
    if (range.size == 0) continue;
    auto mapping = map_memory(Bytes{range.size}, backing);
    if (!mapping) return std::unexpected(std::move(mapping.error()));
    memory.regions_.push_back({range.start, mapping->host, std::move(mapping->file)});
  }
  if (backing.merge) BALLOON_TRY(memory.set_merging(true));
  return memory;
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : size_(std::exchange(other.size_, Bytes{})),
      backing_(other.backing_),
      regions_(std::exchange(other.regions_, {})) {}

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

Result<GuestMemory::Released> GuestMemory::release(GuestRange range) const {
  if (range.start % kPageSize != 0 || range.size % kPageSize != 0 || range.start + range.size < range.start) {
    return fail(fmt::format("releasing guest memory at {:#x}, {:#x} bytes: not whole pages, or it wraps",
                            range.start, range.size));
  }
  const std::uint64_t page = page_size(backing_.huge_pages).count();
  Released sum;
  for (const Region& region : regions_) {
    const GuestAddress start = std::max(range.start, region.start);
    const GuestAddress end = std::min(range.start + range.size, region.start + region.host.size());
    if (start >= end) continue;
    sum.ram += Bytes{end - start};
    const GuestAddress first = (start + page - 1) / page * page;
    const GuestAddress last = end / page * page;
    if (first >= last) continue;
    const std::span<std::byte> host = region.host.subspan(first - region.start, last - first);
    const Bytes resident = resident_bytes(host);
    BALLOON_TRY(release_host(region, host));
    sum.released += Bytes{host.size()};
    sum.freed += resident;
  }
  return sum;
}

/// The call that really frees: MADV_DONTNEED drops private pages, but of a shared file only this process's
/// page table entries; there a hole frees the pages for all.
Result<void> GuestMemory::release_host(const Region& region, std::span<std::byte> host) const {
  const auto offset = static_cast<std::uint64_t>(host.data() - region.host.data());
  const auto failed = [&] {
    return fail_errno(
        fmt::format("releasing guest memory at {:#x}, {:#x} bytes", region.start + offset, host.size()),
        errno);
  };
  if (region.file) {
    const int done = ::fallocate(region.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                 static_cast<off_t>(offset), static_cast<off_t>(host.size()));
    return done == 0 ? Result<void>{} : failed();
  }
  if (backing_.huge_pages == HugePages::transparent && !backing_.lock) {
    if (offset % kHugePageSize != 0) split_huge_page(host.data());
    if ((offset + host.size()) % kHugePageSize != 0) split_huge_page(host.data() + host.size() - kPageSize);
  }
  const int advice = backing_.lock ? MADV_DONTNEED_LOCKED : MADV_DONTNEED;
  return ::madvise(host.data(), host.size(), advice) == 0 ? Result<void>{} : failed();
}

Result<void> GuestMemory::take_back(GuestRange range) const {
  if (!from_pool(backing_.huge_pages)) return {};
  const std::uint64_t page = page_size(backing_.huge_pages).count();
  for (const Region& region : regions_) {
    const GuestAddress start = std::max(range.start, region.start);
    const GuestAddress end = std::min(range.start + range.size, region.start + region.host.size());
    if (start >= end) continue;
    const GuestAddress first = start / page * page - region.start;
    const GuestAddress last = (end + page - 1) / page * page - region.start;
    if (::fallocate(region.file.get(), 0, static_cast<off_t>(first), static_cast<off_t>(last - first)) != 0) {
      return fail_errno(fmt::format("taking {} of guest memory from the host's pool of {} pages",
                                    format_bytes(Bytes{last - first}), format_bytes(Bytes{page})),
                        errno);
    }
  }
  return {};
}

void GuestMemory::join_huge_page(GuestAddress huge_page) const {
  if (backing_.huge_pages != HugePages::transparent || backing_.shared || backing_.lock) return;
  if (const auto host = at(huge_page, kHugePageSize)) ::madvise(host->data(), host->size(), MADV_COLLAPSE);
}

Result<void> GuestMemory::set_merging(bool on) {
  MemoryBacking wanted = backing_;
  wanted.merge = on;
  BALLOON_TRY(check_backing(wanted, size_));
  for (const Region& region : regions_) {
    if (::madvise(region.host.data(), region.host.size(), on ? MADV_MERGEABLE : MADV_UNMERGEABLE) != 0) {
      if (!on && errno == EINVAL) continue;  // a kernel without KSM has merged nothing
      return fail_errno(on ? "offering guest memory to KSM (is CONFIG_KSM in this kernel?)"
                           : "taking guest memory back from KSM",
                        errno);
    }
  }
  backing_.merge = on;  // and nothing else, which others read meanwhile
  return {};
}

}  // namespace balloon::vmm
