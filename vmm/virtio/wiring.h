// SPDX-License-Identifier: Apache-2.0
// What a virtio transport needs of the hypervisor: pins of the I/O APIC and doorbells. vmm/kvm implements it;
// tests use fakes.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>

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
  static constexpr std::int32_t kAnyValue = -1;
  std::uint64_t address = 0;
  bool port = false;               ///< an I/O port, not memory
  std::uint8_t width = 2;          ///< bytes that are written at once
  std::int32_t value = kAnyValue;  ///< only writes of this value (a queue's index)
  friend auto operator<=>(const Doorbell&, const Doorbell&) = default;
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
