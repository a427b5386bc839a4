// SPDX-License-Identifier: Apache-2.0
// Packed virtqueue, device side (virtio 1.2, 2.8): one ring, in which the driver makes descriptors available
// and the device writes used ones over them. A wrap counter on either side tells old from new.
#pragma once

#include <memory>

#include "vmm/virtio/ring.h"

namespace balloon::vmm {

class PackedRing final : public Ring {
 public:
  static Result<std::unique_ptr<Ring>> create(const GuestMemory& memory, const QueueLayout& layout);

  Result<std::optional<Chain>> take() override;
  bool should_interrupt() override;
  bool enable_kicks() override;
  void disable_kicks() override;
  QueuePosition position() const override;
  Result<void> set_position(const QueuePosition& position) override;

 private:
  struct Place {  ///< a place in the ring, and the wrap counter there
    std::uint16_t index = 0;
    bool wrap = true;
  };
  PackedRing(const GuestMemory& memory, const QueueLayout& layout, std::span<std::byte> ring,
             std::span<std::byte> driver_event, std::span<std::byte> device_event)
      : Ring(memory, layout), ring_(ring), driver_event_(driver_event), device_event_(device_event) {}
  void advance(Place& place, std::uint16_t slots) const;
  /// The flags of the descriptor at next_available_, when the driver has made it available.
  std::optional<std::uint16_t> available_flags(std::memory_order order) const;
  /// Fills the chain from the ring; which buffer id it has and how many descriptors it takes.
  Result<ChainToken> walk(Chain& chain, std::uint16_t flags) const;
  Result<void> walk_table(Chain& chain, std::span<const std::byte> table) const;
  void write_used(std::span<const Used> used) override;
  void write_device_event(std::uint32_t event);

  // Checked once to lie in RAM, which does not move. Everything in them is guest-controlled.
  std::span<std::byte> ring_;
  std::span<std::byte> driver_event_;
  std::span<std::byte> device_event_;
  Place next_available_;
  Place next_used_;
  std::uint32_t unsignalled_ = 0;  ///< descriptors used since should_interrupt()
  std::uint32_t device_event_now_ = 0;
};

}  // namespace balloon::vmm
