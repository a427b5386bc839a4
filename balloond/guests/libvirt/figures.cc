// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/figures.h"

#include <fmt/format.h>
#include <libvirt/libvirt.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace balloon::daemon::libvirt {
namespace {

/// A guest with more disks has a wrong number there.
constexpr std::uint64_t kDisksMax = 4096;

std::optional<std::uint64_t> number(const Numbers& numbers, std::string_view name) {
  const auto found = numbers.find(name);
  if (found == numbers.end()) return std::nullopt;
  return found->second;
}

/// A size in KiB, of which absurd ones stay absurd: they are bounded where all backends' are.
std::optional<Bytes> size(const Numbers& numbers, std::string_view name) {
  const auto kib = number(numbers, name);
  if (!kib) return std::nullopt;
  return *kib > Bytes::max() / kKiB ? Bytes::max() - Bytes{1} : *kib * kKiB;
}

std::optional<Bytes> disk_reads(const Numbers& numbers) {
  const auto disks = number(numbers, "block.count");
  if (!disks) return std::nullopt;
  std::optional<Bytes> sum;
  for (std::uint64_t i = 0; i < std::min(*disks, kDisksMax); ++i) {
    const std::optional<Bytes> read(number(numbers, fmt::format("block.{}.rd.bytes", i)));
    if (!read || *read > Bytes::max() - sum.value_or(Bytes{})) continue;
    sum = sum.value_or(Bytes{}) + *read;
  }
  return sum;
}

}  // namespace

Figures read_figures(std::string uuid, std::string name, const Numbers& numbers) {
  Figures read;
  read.uuid = std::move(uuid);
  read.name = std::move(name);
  read.state = static_cast<int>(std::min<std::uint64_t>(number(numbers, "state.state").value_or(0), 255));
  read.starting =
      read.state == VIR_DOMAIN_PAUSED && number(numbers, "state.reason") == VIR_DOMAIN_PAUSED_STARTING_UP;
  read.actual = size(numbers, "balloon.current");
  read.maximum = size(numbers, "balloon.maximum");
  read.vcpus =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(number(numbers, "vcpu.current").value_or(0), 65535));
  read.asked = number(numbers, "balloon.rss") || number(numbers, "balloon.last-update");
  // The last second since 1970 that a clock of 64 bits of nanoseconds holds, rounded (year 2255).
  constexpr std::uint64_t kSecondsMax = 9'000'000'000;
  if (const auto updated = number(numbers, "balloon.last-update"); updated && *updated > 0)
    read.updated_at = std::chrono::seconds(std::min(*updated, kSecondsMax));
  StatsSample& sample = read.sample;
  sample.actual = read.actual.value_or(Bytes{});
  // libvirt's "available" is what the guest's kernel manages, and "usable" what its programs can take.
  const std::array<std::pair<const char*, std::optional<Bytes>*>, 6> sizes{
      {{"balloon.swap_in", &sample.swap_in},
       {"balloon.swap_out", &sample.swap_out},
       {"balloon.unused", &sample.free},
       {"balloon.available", &sample.total},
       {"balloon.usable", &sample.available},
       {"balloon.disk_caches", &sample.disk_caches}}};
  for (const auto& [key, field] : sizes) *field = size(numbers, key);
  sample.major_faults = number(numbers, "balloon.major_fault");
  sample.minor_faults = number(numbers, "balloon.minor_fault");
  sample.hugetlb_allocations = number(numbers, "balloon.hugetlb_pgalloc");
  sample.hugetlb_failures = number(numbers, "balloon.hugetlb_pgfail");
  sample.disk_read = disk_reads(numbers);
  return read;
}

}  // namespace balloon::daemon::libvirt
