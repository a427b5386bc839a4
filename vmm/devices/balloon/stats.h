// SPDX-License-Identifier: Apache-2.0
// The statistics buffer of a guest (virtio 1.2, 5.5.6.3). Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/devices/balloon/balloon_control.h"

namespace balloon::vmm {

/// A packed entry: little-endian 16-bit tag, 64-bit value.
inline constexpr std::size_t kStatEntrySize = 10;
/// How much of a buffer is looked at: four times what Linux 6.12 sends, so that new tags do not push out
/// known ones.
inline constexpr std::size_t kStatsBufferMax = 64 * kStatEntrySize;

/// The values by tag. An unknown tag and a torn entry at the end are ignored; of a tag that comes twice the
/// last counts.
std::array<std::optional<std::uint64_t>, kStatTags> parse_stats(std::span<const std::byte> buffer);

}  // namespace balloon::vmm
