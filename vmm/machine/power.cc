// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/power.h"

#include <algorithm>

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

// Sleep control register (ACPI 6.4, table 4.20): SLP_TYP in bits 2 to 4, SLP_EN bit 5.
constexpr std::uint8_t kSleepEnable = 1U << 5;
constexpr unsigned kSleepTypeShift = 2;
constexpr std::uint8_t kSleepTypeMask = 0x7;
/// Keyboard controller command "pulse output line 0", which is wired to the CPU's reset
/// (linux/arch/x86/kernel/reboot.c).
constexpr std::uint8_t kPulseReset = 0xfe;
/// Reset control register: what sticks (full and system reset), and the bit that does it.
constexpr std::uint8_t kResetKept = 0x0a;
constexpr std::uint8_t kResetCpu = 0x04;

bool is_reset_control(std::uint64_t offset, std::size_t size) {
  return size == 1 && layout::kPciConfigAddressPort + offset == layout::kChipsetResetPort;
}

}  // namespace

void PowerPorts::bus_read(std::uint64_t /*offset*/, std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0});
}

void PowerPorts::bus_write(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t port = layout::kSleepControlPort + offset;
  const auto value = static_cast<std::uint8_t>(from[0]);
  if (port == layout::kSleepControlPort && (value & kSleepEnable) != 0 &&
      (value >> kSleepTypeShift & kSleepTypeMask) == layout::kSleepTypeS5) {
    outcome_.set(Ending::power_off, "ACPI power-off");
  }
  if (port == layout::kResetPort && value == layout::kResetValue) outcome_.set(Ending::reboot, "ACPI reset");
}

void PciPorts::bus_read(std::uint64_t offset, std::span<std::byte> into) {
  if (!is_reset_control(offset, into.size())) return pci_.bus_read(offset, into);
  into[0] = std::byte{reset_control_.load()};
}

void PciPorts::bus_write(std::uint64_t offset, std::span<const std::byte> from) {
  if (!is_reset_control(offset, from.size())) return pci_.bus_write(offset, from);
  const auto value = static_cast<std::uint8_t>(from[0]);
  reset_control_ = value & kResetKept;
  if ((value & kResetCpu) != 0) outcome_.set(Ending::reboot, "chipset reset");
}

void KeyboardReset::bus_read(std::uint64_t /*offset*/, std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0});  // idle: takes a command at once
}

void KeyboardReset::bus_write(std::uint64_t /*offset*/, std::span<const std::byte> from) {
  if (static_cast<std::uint8_t>(from[0]) == kPulseReset)
    outcome_.set(Ending::reboot, "keyboard controller reset");
}

}  // namespace balloon::vmm
