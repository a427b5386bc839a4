// SPDX-License-Identifier: Apache-2.0
// The guest's RAM. The only class that touches it: every access is checked against the regions here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/pages.h"
#include "base/unique_fd.h"
#include "vmm/memory/backing.h"

namespace balloon::vmm {

/// A guest-physical address.
using GuestAddress = std::uint64_t;

/// A guest-physical range [start, start + size).
struct GuestRange {
  GuestAddress start = 0;
  std::uint64_t size = 0;
  friend bool operator==(const GuestRange&, const GuestRange&) = default;
};

/// As numbers, like addresses and what is counted from them: a page (as a size it is balloon::kPageSize), and
/// a huge page of x86-64.
inline constexpr std::uint64_t kPageSize = balloon::kPageSize.count();
inline constexpr std::uint64_t kHugePageSize = (2 * kMiB).count();

class GuestMemory {
 public:
  /// A run of RAM at one guest address and one host mapping.
  struct Region {
    GuestAddress start;
    std::span<std::byte> host;
    UniqueFd file{};  ///< all of which it maps; none: private memory
  };
  /// What became of a range.
  struct Released {
    Bytes ram{};       ///< of it, inside RAM
    Bytes released{};  ///< of that, given to the kernel: not the torn pages of a pool
    Bytes freed{};     ///< of that, was in the host's memory before
    friend bool operator==(const Released&, const Released&) = default;
  };

  /// Maps `size` bytes (a multiple of 4 KiB, at least 1 MiB): up to 3 GiB below the PCI hole, the rest from
  /// 4 GiB up. Untouched, unless the backing says otherwise.
  static Result<GuestMemory> create(Bytes size, const MemoryBacking& backing = {});

  GuestMemory(GuestMemory&& other) noexcept;
  GuestMemory& operator=(GuestMemory&&) = delete;
  ~GuestMemory();

  Bytes size() const { return size_; }
  const MemoryBacking& backing() const { return backing_; }
  std::span<const Region> regions() const { return regions_; }

  /// The host bytes of a guest range; nothing when any byte of it is outside RAM, or it spans two regions.
  /// The guest may write them at any time: read each byte once.
  std::optional<std::span<std::byte>> at(GuestAddress address, std::uint64_t size) const;

  /// Copies out of guest memory; false (and nothing copied) when the range is outside RAM.
  bool read(GuestAddress address, std::span<std::byte> into) const;
  /// Copies into guest memory; false (and nothing copied) when the range is outside RAM.
  bool write(GuestAddress address, std::span<const std::byte> from) const;

  template <typename T>
    requires std::is_trivially_copyable_v<T>
  std::optional<T> read(GuestAddress address) const {
    T value;
    if (!read(address, std::as_writable_bytes(std::span(&value, 1)))) return std::nullopt;
    return value;
  }
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  bool write(GuestAddress address, const T& value) const {
    return write(address, std::as_bytes(std::span(&value, 1)));
  }

  /// Gives the host back the pages of `range` (page-aligned): they read as zeros afterwards. Of a range
  /// outside RAM, and of a pool's page that the range holds only a part of, nothing is released.
  Result<Released> release(GuestRange range) const;
  /// Makes sure that the host has memory for `range` again. Only a pool can be empty; other memory comes when
  /// it is touched.
  Result<void> take_back(GuestRange range) const;
  /// Has the host make one huge page of the small ones at `huge_page` (its start), where it has private
  /// memory in huge pages of its own accord, and can (Linux 6.1). Nothing is lost when it does not.
  void join_huge_page(GuestAddress huge_page) const;
  /// Lets KSM share equal pages, or ends that and copies what is shared.
  Result<void> set_merging(bool on);

 private:
  GuestMemory() = default;
  Result<void> release_host(const Region& region, std::span<std::byte> host) const;
  Bytes size_{};
  MemoryBacking backing_;
  std::vector<Region> regions_;
};

}  // namespace balloon::vmm
