// SPDX-License-Identifier: Apache-2.0
// Sizes in bytes: parsing what people write, printing what they can read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace balloon {

using Bytes = std::uint64_t;

inline constexpr Bytes kKiB = 1024;
inline constexpr Bytes kMiB = 1024 * kKiB;
inline constexpr Bytes kGiB = 1024 * kMiB;

/// Parses "512MiB", "2G", "1.5GiB", "4096K". K, M, G, T with or without "iB" are powers of 1024 (as in QEMU's
/// -m). A bare number other than 0 is refused: its unit would be a guess.
Result<Bytes> parse_bytes(std::string_view text);

/// "512 MiB", "1.50 GiB": at most four significant digits.
std::string format_bytes(Bytes bytes);

}  // namespace balloon
