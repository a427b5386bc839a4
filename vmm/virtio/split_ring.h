// SPDX-License-Identifier: Apache-2.0
// Split virtqueue, device side (virtio 1.2, 2.7).
#pragma once

#include <memory>

#include "vmm/virtio/ring.h"

namespace balloon::vmm {

class SplitRing final : public Ring {
 public:
  static Result<std::unique_ptr<Ring>> create(const GuestMemory& memory, const QueueLayout& layout);

  Result<std::optional<Chain>> take() override;
  bool should_interrupt() override;
  bool enable_kicks() override;
  void disable_kicks() override;
  QueuePosition position() const override;
  Result<void> set_position(const QueuePosition& position) override;

 private:
  SplitRing(const GuestMemory& memory, const QueueLayout& layout, std::span<std::byte> descriptors,
            std::span<std::byte> available, std::span<std::byte> used)
      : Ring(memory, layout), descriptors_(descriptors), available_(available), used_(used) {}
  Result<void> walk(Chain& chain, std::uint16_t head) const;
  void write_used(std::span<const Used> used) override;

  // The rings, checked once to lie in RAM, which does not move. Everything in them is guest-controlled.
  std::span<std::byte> descriptors_;
  std::span<std::byte> available_;
  std::span<std::byte> used_;
  std::uint16_t next_available_ = 0;
  std::uint16_t next_used_ = 0;
  std::uint16_t signalled_used_ = 0;
};

}  // namespace balloon::vmm
