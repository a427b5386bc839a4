// SPDX-License-Identifier: Apache-2.0
#include "vmm/bus.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <mutex>

namespace balloon::vmm {

Result<void> Bus::add(std::string_view name, std::uint64_t start, std::uint64_t size, BusDevice& device) {
  if (size == 0 || start + size < start) {
    return fail(fmt::format("{} at {:#x}: its size {:#x} is impossible", name, start, size));
  }
  const std::unique_lock lock(mutex_);
  const auto next = ranges_.lower_bound(start);
  const bool hits_next = next != ranges_.end() && next->first - start < size;
  const bool hits_previous =
      next != ranges_.begin() && start - std::prev(next)->first < std::prev(next)->second.size;
  if (hits_next || hits_previous) {
    return fail(fmt::format("{} at {:#x}, size {:#x}: something else lies there", name, start, size));
  }
  ranges_.emplace(start, Range{size, &device});
  return {};
}

void Bus::remove(std::uint64_t start) {
  const std::unique_lock lock(mutex_);
  ranges_.erase(start);
}

Bus::Hit Bus::find(std::uint64_t address, std::size_t size) const {
  const std::shared_lock lock(mutex_);
  const auto after = ranges_.upper_bound(address);
  if (after == ranges_.begin()) return {nullptr, 0};
  const auto& [start, range] = *std::prev(after);
  const std::uint64_t offset = address - start;
  if (offset >= range.size || size > range.size - offset) return {nullptr, 0};
  return {range.device, offset};
}

// The device is called without the lock: it may itself move a range, and it outlives the vCPUs.
void Bus::read(std::uint64_t address, std::span<std::byte> into) const {
  std::ranges::fill(into, std::byte{0xff});
  const Hit hit = find(address, into.size());
  if (hit.device != nullptr) hit.device->bus_read(hit.offset, into);
}

void Bus::write(std::uint64_t address, std::span<const std::byte> from) const {
  const Hit hit = find(address, from.size());
  if (hit.device != nullptr) hit.device->bus_write(hit.offset, from);
}

}  // namespace balloon::vmm
