// SPDX-License-Identifier: Apache-2.0
// One ACPI table being built: fields in order, then length and checksum. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace balloon::vmm {

/// The sum that makes `bytes` add up to 0 modulo 256.
std::uint8_t acpi_checksum(std::span<const std::byte> bytes);

/// Who made the tables (ACPI 6.4, table 5.4).
inline constexpr std::string_view kAcpiOemId = "BALOON";         // 6 characters
inline constexpr std::string_view kAcpiOemTableId = "BALLOOND";  // 8
inline constexpr std::string_view kAcpiCreatorId = "BLND";       // 4

class AcpiTable {
 public:
  /// Writes the common header; its length and checksum come with finish().
  AcpiTable(std::string_view signature, std::uint8_t revision);

  /// Appends a little-endian field of the type's size.
  template <typename T>
  AcpiTable& add(T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i)));
    }
    return *this;
  }
  AcpiTable& add_zeros(std::size_t count);
  AcpiTable& add_text(std::string_view text);
  AcpiTable& add_bytes(std::span<const std::uint8_t> bytes);
  /// A Generic Address Structure (5.2.3.2) of a byte-wide I/O port.
  AcpiTable& add_port(std::uint16_t port);

  std::vector<std::byte> finish() &&;

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace balloon::vmm
