// What PCI devices need of the hypervisor: interrupts and doorbells. vmm/kvm implements it; tests use fakes.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/error.h"

namespace balloon::vmm {

/// What a device writes to raise a message-signalled interrupt.
struct MsiMessage {
  std::uint64_t address = 0;
  std::uint32_t data = 0;
  friend bool operator==(const MsiMessage&, const MsiMessage&) = default;
};

/// One message-signalled interrupt of a device. Calls are serialised by the owner.
class MsiLine {
 public:
  virtual ~MsiLine() = default;
  /// From now on trigger() sends `message`.
  virtual Result<void> route(const MsiMessage& message) = 0;
  virtual void trigger() = 0;

  // For a line that somebody else triggers (vhost): the eventfd to signal, or -1 when it has none.
  virtual int event() const { return -1; }
  /// Until release(), signals of event() raise nothing, but are remembered.
  virtual void hold() {}
  /// From now on signals raise the interrupt again. Whether one was remembered; it is forgotten.
  virtual bool release() { return false; }
  /// Whether something is remembered.
  virtual bool held_signal() const { return false; }
};

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
  std::optional<std::uint16_t> value{};  ///< only writes of this value
  friend auto operator<=>(const Doorbell&, const Doorbell&) = default;
};

class PciHost {
 public:
  virtual ~PciHost() = default;
  virtual Result<std::unique_ptr<MsiLine>> new_msi_line() = 0;
  /// Pin `gsi` of the I/O APIC.
  virtual Result<std::unique_ptr<PinLine>> new_pin_line(std::uint32_t gsi) = 0;
  /// A two-byte guest write to `doorbell` signals `event` (an eventfd) without an exit to us.
  virtual Result<void> connect_doorbell(const Doorbell& doorbell, int event) = 0;
  virtual void disconnect_doorbell(const Doorbell& doorbell, int event) = 0;
};

}  // namespace balloon::vmm
