// SPDX-License-Identifier: Apache-2.0
// ACPI tables of our machine: RSDP, XSDT, FADT (hardware-reduced), MADT, DSDT (PCI root, serial port,
// virtio-mmio devices). Pure: bytes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

/// Local APIC ids are 8 bits, 0xff means all of them: above this the machine would need x2APIC entries.
inline constexpr std::uint32_t kMaxVcpus = 254;

struct AcpiConfig {
  std::uint32_t vcpus = 1;         ///< 1 to kMaxVcpus; local APIC ids 0 .. vcpus-1
  std::uint32_t mmio_devices = 0;  ///< virtio-mmio devices, up to layout::kMmioDevices
};

/// All tables as one image to be placed at layout::kAcpiTables, the RSDP at its first byte.
std::vector<std::byte> build_acpi_tables(const AcpiConfig& config);

}  // namespace balloon::vmm
