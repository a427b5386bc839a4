// SPDX-License-Identifier: Apache-2.0
// Ranges of guest-physical addresses or of I/O ports, and who answers for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <shared_mutex>
#include <span>
#include <string_view>

#include "base/error.h"

namespace balloon::vmm {

/// Answers accesses to a range. Called from vCPU threads, several at a time.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  /// Fills `into`, whose size is the access's (1 to 8 bytes). offset + size never passes the range's end.
  virtual void bus_read(std::uint64_t offset, std::span<std::byte> into) = 0;
  virtual void bus_write(std::uint64_t offset, std::span<const std::byte> from) = 0;
};

/// One address space. Thread-safe. What nobody claims reads as all ones, and writes to it vanish, as on real
/// hardware.
class Bus {
 public:
  /// Fails when the range is empty, wraps, or overlaps one that is there. `device` must outlive all vCPU
  /// threads.
  Result<void> add(std::string_view name, std::uint64_t start, std::uint64_t size, BusDevice& device);
  void remove(std::uint64_t start);

  void read(std::uint64_t address, std::span<std::byte> into) const;
  void write(std::uint64_t address, std::span<const std::byte> from) const;

 private:
  struct Range {
    std::uint64_t size;
    BusDevice* device;
  };
  struct Hit {
    BusDevice* device;
    std::uint64_t offset;
  };
  Hit find(std::uint64_t address, std::size_t size) const;

  mutable std::shared_mutex mutex_;
  std::map<std::uint64_t, Range> ranges_;
};

}  // namespace balloon::vmm
