// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/acpi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// Reads the tables as a kernel does: from the RSDP on, by guest address.
class Tables {
 public:
  explicit Tables(std::uint32_t vcpus, std::uint32_t mmio_devices = 0)
      : image_(build_acpi_tables({.vcpus = vcpus, .mmio_devices = mmio_devices})) {}

  std::size_t size() const { return image_.size(); }
  template <typename T>
  T at(GuestAddress address) const {
    T value;
    std::memcpy(&value, image_.data() + (address - layout::kAcpiTables), sizeof value);
    return value;
  }
  std::string text(GuestAddress address, std::size_t size) const {
    return {reinterpret_cast<const char*>(image_.data()) + (address - layout::kAcpiTables), size};
  }
  unsigned sum(GuestAddress address, std::size_t size) const {
    unsigned sum = 0;
    for (std::size_t i = 0; i < size; ++i) sum += at<std::uint8_t>(address + i);
    return sum & 0xff;
  }
  std::uint32_t length(GuestAddress table) const { return at<std::uint32_t>(table + 4); }
  GuestAddress xsdt() const { return at<std::uint64_t>(layout::kAcpiTables + 24); }
  /// The table of that signature, by the XSDT (or the FADT, for the DSDT).
  GuestAddress find(std::string_view signature) const {
    if (signature == "DSDT") return at<std::uint64_t>(find("FACP") + 140);
    for (GuestAddress entry = xsdt() + 36; entry < xsdt() + length(xsdt()); entry += 8) {
      auto table = at<std::uint64_t>(entry);
      if (text(table, 4) == signature) return table;
    }
    ADD_FAILURE() << "no table " << signature;
    return layout::kAcpiTables;
  }

 private:
  std::vector<std::byte> image_;
};

TEST(AcpiTest, RsdpIsAtTheStartWithBothChecksumsRight) {
  Tables tables(2);
  EXPECT_EQ(tables.text(layout::kAcpiTables, 8), "RSD PTR ");
  EXPECT_EQ(tables.at<std::uint8_t>(layout::kAcpiTables + 15), 2) << "revision";
  EXPECT_EQ(tables.sum(layout::kAcpiTables, 20), 0u);
  EXPECT_EQ(tables.sum(layout::kAcpiTables, 36), 0u);
}

TEST(AcpiTest, EveryTableAddsUpToZero) {
  for (std::uint32_t vcpus : {1U, 2U, 64U, kMaxVcpus}) {
    Tables tables(vcpus);
    EXPECT_EQ(tables.text(tables.xsdt(), 4), "XSDT");
    for (GuestAddress table :
         {tables.xsdt(), tables.find("FACP"), tables.find("APIC"), tables.find("DSDT")}) {
      EXPECT_EQ(tables.sum(table, tables.length(table)), 0u) << tables.text(table, 4) << " of " << vcpus;
    }
  }
}

TEST(AcpiTest, TheLargestMachinesTablesFitTheirPlace) {
  EXPECT_LE(Tables(kMaxVcpus, layout::kMmioDevices).size(), layout::kAcpiTablesEnd - layout::kAcpiTables);
}

TEST(AcpiTest, FadtIsHardwareReducedWithSleepAndResetRegisters) {
  Tables tables(1);
  GuestAddress fadt = tables.find("FACP");
  EXPECT_EQ(tables.length(fadt), 276u);
  EXPECT_EQ(tables.at<std::uint8_t>(fadt + 8), 6) << "revision";
  auto flags = tables.at<std::uint32_t>(fadt + 112);
  EXPECT_TRUE(flags & 1 << 20) << "HW_REDUCED_ACPI";
  EXPECT_TRUE(flags & 1 << 10) << "RESET_REG_SUP";
  EXPECT_EQ(tables.at<std::uint8_t>(fadt + 116), 1) << "reset register in I/O space";
  EXPECT_EQ(tables.at<std::uint64_t>(fadt + 120), layout::kResetPort);
  EXPECT_EQ(tables.at<std::uint8_t>(fadt + 128), layout::kResetValue);
  EXPECT_EQ(tables.at<std::uint8_t>(fadt + 244), 1) << "sleep control register in I/O space";
  EXPECT_EQ(tables.at<std::uint64_t>(fadt + 248), layout::kSleepControlPort);
  EXPECT_EQ(tables.at<std::uint64_t>(fadt + 260), layout::kSleepStatusPort);
  EXPECT_NE(tables.at<std::uint64_t>(fadt + 268), 0u) << "hypervisor vendor";
}

TEST(AcpiTest, FadtSaysThatThereIsNoVgaNo8042AndNoRtc) {
  Tables tables(1);
  auto boot_flags = tables.at<std::uint16_t>(tables.find("FACP") + 109);
  EXPECT_TRUE(boot_flags & 1 << 2) << "VGA not present";
  EXPECT_FALSE(boot_flags & 1 << 1) << "8042";
  EXPECT_TRUE(boot_flags & 1 << 5) << "CMOS RTC not present";
}

/// Local APIC ids of enabled processors, and I/O APIC addresses.
struct Madt {
  std::vector<std::uint32_t> processors;
  std::vector<std::uint32_t> apic_ids;
  std::vector<std::uint32_t> io_apics;
};

Madt read_madt(const Tables& tables) {
  Madt madt;
  GuestAddress table = tables.find("APIC");
  EXPECT_EQ(tables.at<std::uint32_t>(table + 36), layout::kLocalApic);
  GuestAddress entry = table + 44;
  while (entry < table + tables.length(table)) {
    if (tables.at<std::uint8_t>(entry) == 0 && tables.at<std::uint32_t>(entry + 4) == 1) {
      madt.processors.push_back(tables.at<std::uint8_t>(entry + 2));
      madt.apic_ids.push_back(tables.at<std::uint8_t>(entry + 3));
    }
    if (tables.at<std::uint8_t>(entry) == 1) {
      madt.io_apics.push_back(tables.at<std::uint32_t>(entry + 4));
      EXPECT_EQ(tables.at<std::uint32_t>(entry + 8), 0u) << "GSI base";
    }
    entry += tables.at<std::uint8_t>(entry + 1);
  }
  EXPECT_EQ(entry, table + tables.length(table)) << "entries end with the table";
  return madt;
}

TEST(AcpiTest, MadtHasEachVcpuByItsIndexAndOneIoApic) {
  for (std::uint32_t vcpus = 1; vcpus <= 64; ++vcpus) {
    Madt madt = read_madt(Tables(vcpus));
    std::vector<std::uint32_t> indices(vcpus);
    std::iota(indices.begin(), indices.end(), 0U);
    EXPECT_EQ(madt.apic_ids, indices);
    EXPECT_EQ(madt.processors, indices);
    EXPECT_THAT(madt.io_apics, ElementsAre(layout::kIoApic));
  }
}

/// Runs `iasl` in `directory` and returns what it printed.
std::string iasl(const std::filesystem::path& directory, const std::string& arguments) {
  std::string command = "cd '" + directory.string() + "' && iasl " + arguments + " > log 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << command << " (acpica-tools is in scripts/install-deps.sh)";
  std::stringstream log;
  log << std::ifstream(directory / "log").rdbuf();
  return log.str();
}

TEST(AcpiTest, TheReferenceDisassemblerReadsTheDsdtAndItsCompilerHasNoComplaint) {
  Tables tables(64, 9);
  std::string name = std::filesystem::temp_directory_path() / "balloon-acpi-XXXXXX";
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  std::filesystem::path directory(name);
  GuestAddress dsdt = tables.find("DSDT");
  std::string bytes = tables.text(dsdt, tables.length(dsdt));
  std::ofstream(directory / "dsdt.dat", std::ios::binary) << bytes;

  iasl(directory, "-d dsdt.dat");
  std::stringstream source;
  source << std::ifstream(directory / "dsdt.dsl").rdbuf();
  EXPECT_THAT(source.str(), HasSubstr("EisaId (\"PNP0A03\")"));
  EXPECT_THAT(source.str(), HasSubstr("EisaId (\"PNP0501\")"));
  EXPECT_THAT(source.str(), HasSubstr("Device (C03F)"));
  EXPECT_THAT(source.str(), HasSubstr("0xC0000000,         // Range Minimum"));
  EXPECT_THAT(source.str(), HasSubstr("0xCFFFFFFF,         // Range Maximum"));
  EXPECT_THAT(source.str(), HasSubstr("Name (\\_S5, Package"));
  EXPECT_THAT(source.str(), HasSubstr("EisaId (\"PNP0C0C\")"));
  EXPECT_THAT(source.str(), HasSubstr("Name (_HID, \"ACPI0013\""));
  EXPECT_THAT(source.str(), HasSubstr("Notify (\\_SB.PWRB, 0x80)"));
  EXPECT_THAT(source.str(), HasSubstr("Name (_PRT, Package (0x20)")) << "a pin for each PCI slot";
  // One virtio-mmio device's resources; the ninth shares the first one's pin.
  const std::regex ninth(
      R"(Device \(VR08\)[^}]*"LNRO0005"[^}]*Memory32Fixed \(ReadWrite,\s*0xFEB08000,[^}]*0x00001000,[^}]*)"
      R"(Interrupt \(ResourceConsumer, Level, ActiveHigh, Shared[^}]*\{\s*0x00000010,)");
  EXPECT_TRUE(std::regex_search(source.str(), ninth)) << source.str();
  EXPECT_THAT(source.str(), Not(HasSubstr("Device (VR09)")));
  EXPECT_THAT(iasl(directory, "-p again dsdt.dsl"), HasSubstr("0 Errors, 0 Warnings"));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace balloon::vmm
