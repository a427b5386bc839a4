// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/acpi_table.h"

#include <utility>

namespace balloon::vmm {
namespace {

// Places in the common table header (ACPI 6.4, table 5.4).
constexpr std::size_t kLengthOffset = 4;
constexpr std::size_t kChecksumOffset = 9;

}  // namespace

std::uint8_t acpi_checksum(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (std::byte byte : bytes) sum += static_cast<unsigned>(byte);
  return static_cast<std::uint8_t>(0 - sum);
}

AcpiTable::AcpiTable(std::string_view signature, std::uint8_t revision) {
  constexpr std::uint32_t kOemRevision = 1;
  constexpr std::uint32_t kCreatorRevision = 1;
  add_text(signature).add(std::uint32_t{0}).add(revision).add(std::uint8_t{0});
  add_text(kAcpiOemId)
      .add_text(kAcpiOemTableId)
      .add(kOemRevision)
      .add_text(kAcpiCreatorId)
      .add(kCreatorRevision);
}

AcpiTable& AcpiTable::add_zeros(std::size_t count) {
  bytes_.resize(bytes_.size() + count);
  return *this;
}

AcpiTable& AcpiTable::add_text(std::string_view text) {
  for (char c : text) bytes_.push_back(static_cast<std::byte>(c));
  return *this;
}

AcpiTable& AcpiTable::add_bytes(std::span<const std::uint8_t> bytes) {
  for (std::uint8_t byte : bytes) bytes_.push_back(std::byte{byte});
  return *this;
}

AcpiTable& AcpiTable::add_port(std::uint16_t port) {
  constexpr std::uint8_t kSystemIo = 1;
  constexpr std::uint8_t kBits = 8;
  constexpr std::uint8_t kByteAccess = 1;
  return add(kSystemIo).add(kBits).add(std::uint8_t{0}).add(kByteAccess).add(std::uint64_t{port});
}

std::vector<std::byte> AcpiTable::finish() && {
  for (std::size_t i = 0; i < sizeof(std::uint32_t); ++i) {
    bytes_[kLengthOffset + i] = static_cast<std::byte>(bytes_.size() >> (8 * i));
  }
  bytes_[kChecksumOffset] = std::byte{acpi_checksum(bytes_)};
  return std::move(bytes_);
}

}  // namespace balloon::vmm
