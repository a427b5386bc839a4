// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli; RFC 3720, appendix B.4): finds every burst error of up to 32 bits, and CPUs have an
// instruction for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace balloon::vmm {

std::uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace balloon::vmm
