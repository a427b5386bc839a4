// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/config_space.h"

#include <algorithm>
#include <cstring>

namespace balloon::vmm {
namespace {

// Register offsets (PCI Local Bus 3.0, figure 6-1; linux/pci_regs.h).
constexpr std::size_t kVendor = 0x00;
constexpr std::size_t kDevice = 0x02;
constexpr std::size_t kRevision = 0x08;  // the class code is in the upper three bytes
constexpr std::size_t kCacheLine = 0x0c;
constexpr std::size_t kSubsystemVendor = 0x2c;
constexpr std::size_t kSubsystem = 0x2e;
constexpr std::size_t kCapabilities = 0x34;
constexpr std::size_t kInterruptLine = 0x3c;
constexpr std::size_t kInterruptPin = 0x3d;
constexpr std::size_t kFirstCapability = 0x40;

constexpr std::uint16_t kStatusCapabilities = 1U << 4;
constexpr std::uint32_t kBarIo = 1;
/// Memory, bus master, parity, SERR and INTx-disable stick; I/O only where there is an I/O BAR.
constexpr std::uint16_t kCommandWritable = 0x0002 | 0x0004 | 0x0040 | 0x0100 | 0x0400;

}  // namespace

template <typename T>
void PciConfigSpace::put(std::size_t offset, T value, T writable) {
  std::memcpy(bytes_.data() + offset, &value, sizeof(T));
  std::memcpy(writable_.data() + offset, &writable, sizeof(T));
}

PciConfigSpace::PciConfigSpace(const PciIdentity& identity)
    : last_capability_link_(kCapabilities), free_(kFirstCapability) {
  put<std::uint16_t>(kVendor, identity.vendor, 0);
  put<std::uint16_t>(kDevice, identity.device, 0);
  put<std::uint16_t>(kCommand, 0, kCommandWritable);
  put<std::uint32_t>(kRevision, identity.class_code << 8 | identity.revision, 0);
  put<std::uint8_t>(kCacheLine, 0, 0xff);
  put<std::uint16_t>(kSubsystemVendor, identity.subsystem_vendor, 0);
  put<std::uint16_t>(kSubsystem, identity.subsystem, 0);
  put<std::uint8_t>(kInterruptLine, 0, 0xff);
}

void PciConfigSpace::add_memory_bar(unsigned bar, std::uint32_t size) {
  bar_sizes_.at(bar) = size;
  // Only the address bits above the size stick: so a guest that writes all ones reads the size back.
  put<std::uint32_t>(bar_register(bar), 0, ~(size - 1));
}

void PciConfigSpace::add_io_bar(unsigned bar, std::uint32_t size) {
  bar_sizes_.at(bar) = size;
  put<std::uint32_t>(bar_register(bar), kBarIo, ~(size - 1));
  put<std::uint16_t>(kCommand, 0, kCommandWritable | kCommandIo);
}

void PciConfigSpace::set_pin(std::uint8_t line) {
  constexpr std::uint8_t kPinA = 1;
  put<std::uint8_t>(kInterruptLine, line, 0xff);
  put<std::uint8_t>(kInterruptPin, kPinA, 0);
}

std::uint8_t PciConfigSpace::add_capability(std::uint8_t id, std::span<const std::byte> body,
                                            std::span<const std::byte> writable) {
  const std::size_t offset = free_;
  put<std::uint8_t>(last_capability_link_, static_cast<std::uint8_t>(offset), 0);
  put<std::uint8_t>(offset, id, 0);
  put<std::uint8_t>(offset + 1, 0, 0);
  std::ranges::copy(body, bytes_.begin() + static_cast<std::ptrdiff_t>(offset + 2));
  std::ranges::copy(writable, writable_.begin() + static_cast<std::ptrdiff_t>(offset + 2));
  put<std::uint16_t>(kStatus, kStatusCapabilities, 0);
  last_capability_link_ = offset + 1;
  free_ = (offset + 2 + body.size() + 3) & ~std::size_t{3};
  return static_cast<std::uint8_t>(offset);
}

void PciConfigSpace::read(std::size_t offset, std::span<std::byte> into) const {
  std::ranges::fill(into, std::byte{0xff});
  if (offset > kSize || into.size() > kSize - offset) return;
  std::memcpy(into.data(), bytes_.data() + offset, into.size());
}

void PciConfigSpace::write(std::size_t offset, std::span<const std::byte> from) {
  if (offset > kSize || from.size() > kSize - offset) return;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::byte mask = writable_[offset + i];
    bytes_[offset + i] = (bytes_[offset + i] & ~mask) | (from[i] & mask);
  }
}

void PciConfigSpace::set(std::size_t offset, std::span<const std::byte> from) {
  if (offset > kSize || from.size() > kSize - offset) return;
  std::memcpy(bytes_.data() + offset, from.data(), from.size());
}

std::uint32_t PciConfigSpace::bar_address(unsigned bar) const {
  return get<std::uint32_t>(bar_register(bar)) & ~std::uint32_t{is_io_bar(bar) ? 0x3U : 0xfU};
}

void PciConfigSpace::set_bar_address(unsigned bar, std::uint32_t address) {
  write(bar_register(bar), std::as_bytes(std::span(&address, 1)));
}

bool PciConfigSpace::bar_enabled(unsigned bar) const {
  return (get<std::uint16_t>(kCommand) & (is_io_bar(bar) ? kCommandIo : kCommandMemory)) != 0;
}

}  // namespace balloon::vmm
