// SPDX-License-Identifier: Apache-2.0
// Arithmetic on numbers that come from a file: an overflow is nothing, never a wrapped value.
#pragma once

#include <cstdint>
#include <optional>

namespace balloon::vmm {

inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

/// The least multiple of `alignment` (a power of two) that is not below `value`.
inline std::optional<std::uint64_t> checked_align_up(std::uint64_t value, std::uint64_t alignment) {
  auto raised = checked_add(value, alignment - 1);
  if (!raised) return std::nullopt;
  return *raised & ~(alignment - 1);
}

}  // namespace balloon::vmm
