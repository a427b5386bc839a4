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
  static constexpr std::uint16_t kCommandMemory = 1U << 1;  ///< the device answers at its memory BARs

  explicit PciConfigSpace(const PciIdentity& identity);

  /// A 32-bit, non-prefetchable memory BAR of `size` bytes (a power of two, at least 16).
  void add_memory_bar(unsigned bar, std::uint32_t size);
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
  std::uint32_t bar_address(unsigned bar) const;
  void set_bar_address(unsigned bar, std::uint32_t address);
  bool memory_enabled() const;

  template <typename T>
  T get(std::size_t offset) const {
    T value{};
    read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

 private:
  template <typename T>
  void put(std::size_t offset, T value, T writable);

  std::array<std::byte, kSize> bytes_{};
  std::array<std::byte, kSize> writable_{};
  std::array<std::uint32_t, kBars> bar_sizes_{};
  std::size_t last_capability_link_;
  std::size_t free_;
};

}  // namespace balloon::vmm
