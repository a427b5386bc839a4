// The ports by which a guest ends its machine: ACPI sleep control and reset, and the keyboard controller's reset line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/bus.h"
#include "vmm/machine/outcome.h"

namespace balloon::vmm {

/// layout::kSleepControlPort, kSleepStatusPort and kResetPort.
class PowerPorts final : public BusDevice {
 public:
  static constexpr std::uint64_t kPorts = 3;
  explicit PowerPorts(OutcomeLatch& outcome) : outcome_(outcome) {}
  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;

 private:
  OutcomeLatch& outcome_;
};

/// The keyboard controller's command port: no keyboard behind it, but the reset line that `reboot=k` pulls.
class KeyboardReset final : public BusDevice {
 public:
  static constexpr std::uint64_t kPort = 0x64;
  explicit KeyboardReset(OutcomeLatch& outcome) : outcome_(outcome) {}
  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;

 private:
  OutcomeLatch& outcome_;
};

}  // namespace balloon::vmm
