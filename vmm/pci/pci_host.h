// SPDX-License-Identifier: Apache-2.0
// What PCI devices need of the hypervisor beyond what all virtio transports do: message-signalled interrupts.
#pragma once

#include <cstdint>
#include <memory>

#include "base/error.h"
#include "vmm/virtio/wiring.h"

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

class PciHost : public Wiring {
 public:
  virtual Result<std::unique_ptr<MsiLine>> new_msi_line() = 0;
};

}  // namespace balloon::vmm
