// SPDX-License-Identifier: Apache-2.0
// Where things lie in a guest's physical address space and its I/O ports.
#pragma once

#include <cstdint>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm::layout {

// Low memory, written before the first instruction. (Below 640 KiB; the kernel's own once it has read it.)
inline constexpr GuestAddress kGdt = 0x500;
inline constexpr GuestAddress kPvhStartInfo = 0x6000;
inline constexpr GuestAddress kPvhModules = 0x6040;
inline constexpr GuestAddress kPvhMemoryMap = 0x6100;
inline constexpr GuestAddress kZeroPage = 0x7000;
inline constexpr GuestAddress kBootStack = 0x8ff0;
/// Identity map of the first 4 GiB: PML4, PDPT, 4 page directories.
inline constexpr GuestAddress kPageTables = 0x9000;
inline constexpr GuestAddress kCommandLine = 0x20000;
inline constexpr std::uint64_t kCommandLineMax = 0x10000;

/// End of usable low RAM; from here to 1 MiB is reserved in E820.
inline constexpr GuestAddress kLowRamEnd = 0x9fc00;
/// ACPI tables, RSDP first: in the area that a kernel scans for it.
inline constexpr GuestAddress kAcpiTables = 0xe0000;
inline constexpr GuestAddress kAcpiTablesEnd = 0x100000;
inline constexpr GuestAddress kHighRamStart = 0x100000;

/// RAM above 3 GiB moves above 4 GiB; the hole has the PCI window and the interrupt controllers.
inline constexpr GuestAddress kPciHoleStart = 0xc0000000;
inline constexpr GuestAddress kPciWindowStart = 0xc0000000;
inline constexpr std::uint64_t kPciWindowSize = 0x10000000;
/// I/O space of PCI devices, above the ports of the platform itself.
inline constexpr std::uint16_t kPciIoStart = 0x1000;
inline constexpr std::uint16_t kPciIoEnd = 0xffff;
/// Pins of the I/O APIC behind the ISA interrupts: the INTx lines of PCI devices, shared when there are more.
inline constexpr std::uint32_t kPciPinsStart = 16;
inline constexpr std::uint32_t kPciPins = 8;
constexpr std::uint32_t pci_pin(unsigned slot) { return kPciPinsStart + slot % kPciPins; }
inline constexpr unsigned kPciSlots = 32;

/// virtio-mmio devices, a page each, where QEMU's microvm has them. They share the I/O APIC's upper pins when
/// there are more of them than pins.
inline constexpr GuestAddress kMmioWindows = 0xfeb00000;
inline constexpr std::uint32_t kMmioWindowSize = 0x1000;
inline constexpr std::uint32_t kMmioDevices = 32;
constexpr GuestAddress mmio_window(std::uint32_t index) {
  return kMmioWindows + GuestAddress{index} * kMmioWindowSize;
}
constexpr std::uint32_t mmio_pin(std::uint32_t index) { return kPciPinsStart + index % kPciPins; }

inline constexpr GuestAddress kIoApic = 0xfec00000;
inline constexpr GuestAddress kLocalApic = 0xfee00000;
inline constexpr GuestAddress kKvmIdentityMap = 0xfeffc000;  ///< KVM_SET_IDENTITY_MAP_ADDR: one page
inline constexpr GuestAddress kKvmTss = 0xfeffd000;          ///< KVM_SET_TSS_ADDR: three pages
inline constexpr GuestAddress kHighMemoryStart = 0x100000000;

// I/O ports.
inline constexpr std::uint16_t kSerialPort = 0x3f8;
inline constexpr std::uint32_t kSerialIrq = 4;
/// Pulsed when the power button is pressed (an ACPI Generic Event Device's only event).
inline constexpr std::uint32_t kPowerButtonIrq = 5;
/// Reset control register of a PC's chipset, among the PCI configuration ports (Intel ICH data sheets).
inline constexpr std::uint16_t kChipsetResetPort = 0xcf9;
inline constexpr std::uint16_t kPciConfigAddressPort = 0xcf8;
inline constexpr std::uint16_t kPciConfigDataPort = 0xcfc;
/// ACPI hardware-reduced sleep control and status registers, one byte each (ACPI 6.4, 4.8.3.7).
inline constexpr std::uint16_t kSleepControlPort = 0x600;
inline constexpr std::uint16_t kSleepStatusPort = 0x601;
/// SLP_TYP of S5 in \_S5; written with SLP_EN (bit 5) to the sleep control register: power off.
inline constexpr std::uint8_t kSleepTypeS5 = 5;
/// ACPI reset register: writing kResetValue reboots.
inline constexpr std::uint16_t kResetPort = 0x602;
inline constexpr std::uint8_t kResetValue = 1;

}  // namespace balloon::vmm::layout
