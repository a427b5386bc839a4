// What a virtio transport needs of the hypervisor: pins of the I/O APIC and doorbells. vmm/kvm implements it;
// tests use fakes.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>

#include "base/error.h"

namespace balloon::vmm {

/// One device's part in a level-triggered interrupt pin, which is asserted while any of its devices asserts
/// it. Calls are serialised by the owner.
class PinLine {
 public:
  virtual ~PinLine() = default;
  virtual void set(bool asserted) = 0;
};

/// A guest write that is a kick.
struct Doorbell {
  std::uint64_t address = 0;
  bool port = false;                     ///< an I/O port, not memory
  std::uint8_t width = 2;                ///< bytes that are written at once
  std::optional<std::uint16_t> value{};  ///< only writes of this value
  friend bool operator==(const Doorbell&, const Doorbell&) = default;
  // Not by default: GCC 12 takes the optional's for a read of what is not initialised.
  friend auto operator<=>(const Doorbell& one, const Doorbell& other) { return one.key() <=> other.key(); }

 private:
  std::tuple<std::uint64_t, bool, std::uint8_t, int> key() const {
    return {address, port, width, value ? int{*value} : -1};
  }
};

class Wiring {
 public:
  virtual ~Wiring() = default;
  /// Pin `gsi` of the I/O APIC.
  virtual Result<std::unique_ptr<PinLine>> new_pin_line(std::uint32_t gsi) = 0;
  /// A guest write to `doorbell` signals `event` (an eventfd) without an exit to us.
  virtual Result<void> connect_doorbell(const Doorbell& doorbell, int event) = 0;
  virtual void disconnect_doorbell(const Doorbell& doorbell, int event) = 0;
};

}  // namespace balloon::vmm
