// SPDX-License-Identifier: Apache-2.0
// What a terminal talks to in the guest: a UART or a virtio console.
#pragma once

#include <cstddef>
#include <span>

namespace balloon::vmm {

/// Called from the event loop, while vCPUs use the device. When a sink that had no room has some again, it
/// calls SerialBackend::resume_input().
class SerialSink {
 public:
  virtual ~SerialSink() = default;
  /// How many bytes receive() takes now.
  virtual std::size_t receive_room() const = 0;
  virtual void receive(std::span<const std::byte> bytes) = 0;
  /// After SerialBackend::transmit_some() took nothing: it may be tried again.
  virtual void transmit_ready() {}
};

}  // namespace balloon::vmm
