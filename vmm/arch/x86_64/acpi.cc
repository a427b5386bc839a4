// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/acpi.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "vmm/arch/x86_64/acpi_table.h"
#include "vmm/arch/x86_64/aml.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

constexpr std::size_t kRsdpSize = 36;
constexpr std::size_t kRsdpV1Size = 20;  // what the first checksum covers
constexpr std::size_t kTableAlignment = 16;

constexpr std::uint8_t kPciConfigPorts = 8;  // 0xcf8 to 0xcff: configuration mechanism 1
constexpr std::uint8_t kSerialPorts = 8;     // registers of a 16550

/// _PRT (ACPI 6.4, 6.2.13): pin A of each slot, wired to a pin of the I/O APIC. Level-triggered, active low,
/// as PCI has it; KVM's I/O APIC does not look at the polarity.
aml::Term pci_pins() {
  std::vector<aml::Term> routes;
  for (unsigned slot = 0; slot < layout::kPciSlots; ++slot) {
    constexpr std::uint32_t kAllFunctions = 0xffff;
    routes.push_back(aml::package({aml::integer(slot << 16 | kAllFunctions), aml::integer(0), aml::integer(0),
                                   aml::integer(layout::pci_pin(slot))}));
  }
  return aml::name("_PRT", aml::package(routes));
}

aml::Term pci_root() {
  return aml::device(
      "PCI0",
      aml::concat({
          aml::name("_HID", aml::eisa_id("PNP0A03")),
          aml::name("_UID", aml::integer(0)),
          pci_pins(),
          aml::name("_CRS", aml::resource_template({
                                aml::bus_window(0, 0),
                                aml::io_ports(layout::kPciConfigAddressPort, kPciConfigPorts),
                                aml::io_window(layout::kPciIoStart, layout::kPciIoEnd),
                                aml::memory_window(layout::kPciWindowStart,
                                                   layout::kPciWindowStart + layout::kPciWindowSize - 1),
                            })),
      }));
}

aml::Term serial_port() {
  return aml::device("COM1", aml::concat({
                                 aml::name("_HID", aml::eisa_id("PNP0501")),
                                 aml::name("_UID", aml::integer(0)),
                                 aml::name("_DDN", aml::string("COM1")),
                                 aml::name("_CRS", aml::resource_template({
                                                       aml::io_ports(layout::kSerialPort, kSerialPorts),
                                                       aml::edge_interrupt(layout::kSerialIrq),
                                                   })),
                             }));
}

/// A hardware-reduced machine has no fixed power button. A control method button takes its place (ACPI 6.4,
/// 4.8.3.1.2), and a Generic Event Device (5.6.9) tells of it: each pulse of its interrupt is a press.
aml::Term power_button() {
  constexpr std::uint8_t kPressed = 0x80;  // table 5.146
  return aml::concat({
      aml::device("PWRB", aml::concat({aml::name("_HID", aml::eisa_id("PNP0C0C")),
                                       aml::name("_UID", aml::integer(0))})),
      aml::device(
          "GED",
          aml::concat({
              aml::name("_HID", aml::string("ACPI0013")),
              aml::name("_UID", aml::integer(0)),
              aml::name("_CRS", aml::resource_template({aml::edge_interrupt(layout::kPowerButtonIrq)})),
              aml::method("_EVT", 1, aml::notify("\\_SB.PWRB", kPressed)),
          })),
  });
}

aml::Term processors(std::uint32_t vcpus) {
  aml::Term all;
  for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
    auto processor = aml::device(fmt::format("C{:03X}", vcpu), aml::concat({
                                                                   aml::name("_HID", aml::string("ACPI0007")),
                                                                   aml::name("_UID", aml::integer(vcpu)),
                                                               }));
    all.insert(all.end(), processor.begin(), processor.end());
  }
  return all;
}

/// "LNRO0005": what Linux's virtio_mmio driver binds to (drivers/virtio/virtio_mmio.c), and microvm's name
/// for them.
aml::Term mmio_devices(std::uint32_t count) {
  aml::Term all;
  for (std::uint32_t index = 0; index < count; ++index) {
    constexpr std::uint64_t kCoherent = 1;  // _CCA (ACPI 6.4, 6.2.17): DMA sees the caches
    auto device = aml::device(
        fmt::format("VR{:02X}", index),
        aml::concat({
            aml::name("_HID", aml::string("LNRO0005")),
            aml::name("_UID", aml::integer(index)),
            aml::name("_CCA", aml::integer(kCoherent)),
            aml::name("_CRS", aml::resource_template({
                                  aml::fixed_memory(static_cast<std::uint32_t>(layout::mmio_window(index)),
                                                    layout::kMmioWindowSize),
                                  aml::level_interrupt(layout::mmio_pin(index)),
                              })),
        }));
    all.insert(all.end(), device.begin(), device.end());
  }
  return all;
}

std::vector<std::byte> build_dsdt(const AcpiConfig& config) {
  constexpr std::uint8_t kRevision = 2;  // integers of 64 bits
  AcpiTable table("DSDT", kRevision);
  table.add_bytes(aml::scope("\\_SB", aml::concat({processors(config.vcpus), pci_root(), serial_port(),
                                                   power_button(), mmio_devices(config.mmio_devices)})));
  // SLP_TYPa and SLP_TYPb; a hardware-reduced machine has one register and uses the first.
  table.add_bytes(aml::name("\\_S5", aml::package({aml::integer(layout::kSleepTypeS5), aml::integer(0)})));
  return std::move(table).finish();
}

std::vector<std::byte> build_madt(std::uint32_t vcpus) {
  constexpr std::uint8_t kRevision = 5;
  constexpr std::uint32_t kFlags = 0;  // no PCAT_COMPAT: the 8259s are not used
  AcpiTable table("APIC", kRevision);
  table.add(static_cast<std::uint32_t>(layout::kLocalApic)).add(kFlags);
  for (std::uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
    constexpr std::uint8_t kLocalApicEntry = 0;
    constexpr std::uint32_t kEnabled = 1;
    const auto id = static_cast<std::uint8_t>(vcpu);
    table.add(kLocalApicEntry).add(std::uint8_t{8}).add(id).add(id).add(kEnabled);
  }
  constexpr std::uint8_t kIoApicEntry = 1;
  constexpr std::uint8_t kIoApicId = 0;  // what KVM's I/O APIC has at reset
  constexpr std::uint32_t kGsiBase = 0;
  table.add(kIoApicEntry).add(std::uint8_t{12}).add(kIoApicId).add(std::uint8_t{0});
  table.add(static_cast<std::uint32_t>(layout::kIoApic)).add(kGsiBase);
  // No interrupt source override: the only GSIs in use below 16 are the serial port's and the power
  // button's, which their descriptors in the DSDT describe.
  constexpr std::uint8_t kLocalApicNmiEntry = 4;
  constexpr std::uint8_t kAllProcessors = 0xff;
  constexpr std::uint8_t kLint1 = 1;
  table.add(kLocalApicNmiEntry).add(std::uint8_t{6}).add(kAllProcessors).add(std::uint16_t{0}).add(kLint1);
  return std::move(table).finish();
}

std::vector<std::byte> build_fadt(GuestAddress dsdt) {
  // ACPI 6.4, 5.2.9: revision 6, all legacy hardware fields zero, as HW_REDUCED_ACPI wants.
  constexpr std::uint8_t kRevision = 6;
  constexpr std::uint8_t kMinorRevision = 4;
  constexpr std::uint16_t kVgaNotPresent = 1 << 2;
  constexpr std::uint16_t kCmosRtcNotPresent = 1 << 5;  // and the bit "8042 present" (1) is clear
  constexpr std::uint32_t kWbinvd = 1 << 0;
  constexpr std::uint32_t kNoFixedPowerButton = 1 << 4;
  constexpr std::uint32_t kNoFixedSleepButton = 1 << 5;
  constexpr std::uint32_t kResetRegisterSupported = 1 << 10;
  constexpr std::uint32_t kHardwareReduced = 1 << 20;
  AcpiTable table("FACP", kRevision);
  table.add(std::uint32_t{0}).add(static_cast<std::uint32_t>(dsdt));  // FIRMWARE_CTRL, DSDT at 40
  table.add_zeros(109 - 44);
  table.add(static_cast<std::uint16_t>(kVgaNotPresent | kCmosRtcNotPresent))
      .add(std::uint8_t{0});  // IAPC_BOOT_ARCH at 109
  table.add(kWbinvd | kNoFixedPowerButton | kNoFixedSleepButton | kResetRegisterSupported | kHardwareReduced);
  table.add_port(layout::kResetPort).add(layout::kResetValue);  // at 116
  table.add(std::uint16_t{0}).add(kMinorRevision);              // ARM_BOOT_ARCH at 129
  table.add(std::uint64_t{0}).add(std::uint64_t{dsdt});         // X_FIRMWARE_CTRL, X_DSDT at 140
  table.add_zeros(244 - 148);                                   // the legacy register blocks
  table.add_port(layout::kSleepControlPort).add_port(layout::kSleepStatusPort);
  table.add_text("BALLOOND");  // hypervisor vendor identity at 268
  return std::move(table).finish();
}

std::vector<std::byte> build_xsdt(GuestAddress fadt, GuestAddress madt) {
  constexpr std::uint8_t kRevision = 1;
  AcpiTable table("XSDT", kRevision);
  table.add(std::uint64_t{fadt}).add(std::uint64_t{madt});
  return std::move(table).finish();
}

/// ACPI 6.4, 5.2.5.3. Not a table of the common form: two checksums.
std::vector<std::byte> build_rsdp(GuestAddress xsdt) {
  std::vector<std::byte> rsdp;
  auto add = [&rsdp](std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) rsdp.push_back(static_cast<std::byte>(value >> (8 * i)));
  };
  auto add_text = [&](std::string_view text) {
    for (char c : text) add(static_cast<std::uint8_t>(c), 1);
  };
  constexpr std::size_t kChecksum = 8;
  constexpr std::size_t kExtendedChecksum = 32;
  add_text("RSD PTR ");
  add(0, 1);  // checksum
  add_text(kAcpiOemId);
  add(2, 1);  // revision
  add(0, 4);  // no RSDT
  add(kRsdpSize, 4);
  add(xsdt, 8);
  add(0, 4);  // extended checksum, reserved
  rsdp[kChecksum] = std::byte{acpi_checksum(std::span(rsdp).first(kRsdpV1Size))};
  rsdp[kExtendedChecksum] = std::byte{acpi_checksum(rsdp)};
  return rsdp;
}

/// Gathers tables one after the other from layout::kAcpiTables on.
class Image {
 public:
  GuestAddress place(const std::vector<std::byte>& table) {
    bytes_.resize((bytes_.size() + kTableAlignment - 1) / kTableAlignment * kTableAlignment);
    const GuestAddress address = layout::kAcpiTables + bytes_.size();
    bytes_.insert(bytes_.end(), table.begin(), table.end());
    return address;
  }
  std::vector<std::byte> finish(const std::vector<std::byte>& rsdp) && {
    std::ranges::copy(rsdp, bytes_.begin());
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kRsdpSize);  // room for the RSDP
};

}  // namespace

std::vector<std::byte> build_acpi_tables(const AcpiConfig& config) {
  Image image;
  const GuestAddress dsdt = image.place(build_dsdt(config));
  const GuestAddress fadt = image.place(build_fadt(dsdt));
  const GuestAddress madt = image.place(build_madt(config.vcpus));
  const GuestAddress xsdt = image.place(build_xsdt(fadt, madt));
  return std::move(image).finish(build_rsdp(xsdt));
}

}  // namespace balloon::vmm
