// SPDX-License-Identifier: Apache-2.0
// The ports by which a guest ends its machine: ACPI sleep control and reset, and the keyboard controller's
// reset line.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/bus.h"
#include "vmm/machine/outcome.h"
#include "vmm/memory/guest_memory.h"

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

/// The PCI configuration ports, among which a PC's chipset has its reset control register (`reboot=p`): bit 2
/// resets (linux/arch/x86/kernel/reboot.c, BOOT_CF9_FORCE).
class PciPorts final : public BusDevice {
 public:
  PciPorts(BusDevice& pci, OutcomeLatch& outcome) : pci_(pci), outcome_(outcome) {}
  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;

 private:
  BusDevice& pci_;
  OutcomeLatch& outcome_;
  std::atomic<std::uint8_t> reset_control_ = 0;
};

/// Where a CPU in real mode looks for the firmware's first instruction, and what it finds: a reset by the
/// keyboard controller. Linux 6.1 jumps there to reboot: on a hardware-reduced ACPI machine it wants EFI's
/// reset, and without EFI falls back to the BIOS's (linux/arch/x86/kernel/reboot.c, reboot_init() and
/// native_machine_emergency_restart()).
inline constexpr GuestAddress kResetVector = 0xffff0;
inline constexpr std::array<std::uint8_t, 7> kResetCode{
    0xb0, 0xfe,  // mov al, 0xfe
    0xe6, 0x64,  // out 0x64, al
    0xf4,        // hlt
    0xeb, 0xfd,  // jmp to the hlt
};

}  // namespace balloon::vmm
