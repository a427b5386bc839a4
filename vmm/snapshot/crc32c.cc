// SPDX-License-Identifier: Apache-2.0
#include "vmm/snapshot/crc32c.h"

#include <array>
#include <cstring>

namespace balloon::vmm {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // reversed

constexpr std::array<std::uint32_t, 256> kTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}();

std::uint32_t by_table(std::uint32_t crc, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes)
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<std::uint32_t>(byte)) & 0xff];
  return crc;
}

[[gnu::target("sse4.2")]] std::uint32_t by_instruction(std::uint32_t start,
                                                       std::span<const std::byte> bytes) {
  std::uint64_t crc = start;
  std::size_t at = 0;
  for (; at + sizeof(std::uint64_t) <= bytes.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    crc = __builtin_ia32_crc32di(crc, word);
  }
  return by_table(static_cast<std::uint32_t>(crc), bytes.subspan(at));
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  return ~(has_instruction ? by_instruction(~0U, bytes) : by_table(~0U, bytes));
}

}  // namespace balloon::vmm
