// SPDX-License-Identifier: Apache-2.0
// A type 0 PCI configuration space (PCI Local Bus 3.0, 6.1): its bytes, and which bits of them the guest may
// write.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace balloon::vmm {

struct PciIdentity {
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  std::uint8_t revision = 0;
  std::uint32_t class_code = 0;  ///< base class, subclass, interface: 24 bits
  std::uint16_t subsystem_vendor = 0;
  std::uint16_t subsystem = 0;
};

class PciConfigSpace {
 public:
  static constexpr std::size_t kSize = 256;
  static constexpr unsigned kBars = 6;
  static constexpr std::size_t kCommand = 0x04;
  static constexpr std::size_t kStatus = 0x06;
  static constexpr std::uint16_t kCommandIo = 1U << 0;      ///< the device answers at its I/O BARs
  static constexpr std::uint16_t kCommandMemory = 1U << 1;  ///< the device answers at its memory BARs
  static constexpr std::uint16_t kCommandNoPin = 1U << 10;  ///< the device does not use its INTx pin
  static constexpr std::uint16_t kStatusPin = 1U << 3;      ///< the device would assert its INTx pin

  explicit PciConfigSpace(const PciIdentity& identity);

  /// A 32-bit, non-prefetchable memory BAR of `size` bytes (a power of two, at least 16).
  void add_memory_bar(unsigned bar, std::uint32_t size);
  /// An I/O BAR of `size` ports (a power of two, 4 to 256).
  void add_io_bar(unsigned bar, std::uint32_t size);
  /// The device has pin A (INTA#), which firmware wired to `line`.
  void set_pin(std::uint8_t line);
  /// Appends a capability: id, next pointer, then `body`; `writable` marks the bits of `body` that the guest
  /// may write. Returns the capability's offset.
  std::uint8_t add_capability(std::uint8_t id, std::span<const std::byte> body,
                              std::span<const std::byte> writable);

  /// A range past the end reads as all ones; writes there are ignored.
  void read(std::size_t offset, std::span<std::byte> into) const;
  /// The guest's write: changes writable bits only.
  void write(std::size_t offset, std::span<const std::byte> from);
  /// The device's own change of its bytes.
  void set(std::size_t offset, std::span<const std::byte> from);

  std::uint32_t bar_size(unsigned bar) const { return bar_sizes_.at(bar); }
  bool is_io_bar(unsigned bar) const { return (get<std::uint32_t>(bar_register(bar)) & 1) != 0; }
  std::uint32_t bar_address(unsigned bar) const;
  void set_bar_address(unsigned bar, std::uint32_t address);
  /// Whether the device answers at this BAR's address.
  bool bar_enabled(unsigned bar) const;

  template <typename T>
  T get(std::size_t offset) const {
    T value{};
    read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

 private:
  static constexpr std::size_t bar_register(unsigned bar) { return 0x10 + bar * 4; }
  template <typename T>
  void put(std::size_t offset, T value, T writable);

  std::array<std::byte, kSize> bytes_{};
  std::array<std::byte, kSize> writable_{};
  std::array<std::uint32_t, kBars> bar_sizes_{};
  std::size_t last_capability_link_;
  std::size_t free_;
};

}  // namespace balloon::vmm
