// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/stats.h"

#include <cstring>

namespace balloon::vmm {

std::array<std::optional<std::uint64_t>, kStatTags> parse_stats(std::span<const std::byte> buffer) {
  std::array<std::optional<std::uint64_t>, kStatTags> values;
  for (; buffer.size() >= kStatEntrySize; buffer = buffer.subspan(kStatEntrySize)) {
    std::uint16_t tag;
    std::uint64_t value;
    std::memcpy(&tag, buffer.data(), sizeof tag);
    std::memcpy(&value, buffer.data() + sizeof tag, sizeof value);
    if (tag < kStatTags) values[tag] = value;
  }
  return values;
}

}  // namespace balloon::vmm
