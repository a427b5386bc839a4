// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/vcpu_state.h"

#include <gtest/gtest.h>

#include <map>

#include "vmm/arch/x86_64/gdt.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

constexpr BootEntry kLinux64{BootEntry::Protocol::linux64, 0x1000200, layout::kZeroPage};
constexpr BootEntry kPvh{BootEntry::Protocol::pvh, 0x1000040, layout::kPvhStartInfo};

/// What the hardware reads from the GDT for a selector, as KVM's structure says it.
kvm_segment from_gdt(std::uint16_t selector) {
  const std::uint64_t raw = gdt::kTable.at(selector / 8);
  auto bits = [raw](unsigned low, unsigned width) {
    return static_cast<std::uint32_t>(raw >> low & ((1ULL << width) - 1));
  };
  kvm_segment segment{};
  segment.selector = selector;
  segment.base = bits(16, 24) | bits(56, 8) << 24;
  segment.limit = bits(0, 16) | bits(48, 4) << 16;
  segment.type = static_cast<std::uint8_t>(bits(40, 4));
  segment.s = static_cast<std::uint8_t>(bits(44, 1));
  segment.dpl = static_cast<std::uint8_t>(bits(45, 2));
  segment.present = static_cast<std::uint8_t>(bits(47, 1));
  segment.avl = static_cast<std::uint8_t>(bits(52, 1));
  segment.l = static_cast<std::uint8_t>(bits(53, 1));
  segment.db = static_cast<std::uint8_t>(bits(54, 1));
  segment.g = static_cast<std::uint8_t>(bits(55, 1));
  if (segment.g) segment.limit = segment.limit << 12 | 0xfff;
  return segment;
}

void expect_same(const kvm_segment& actual, const kvm_segment& expected, const char* name) {
  SCOPED_TRACE(name);
  EXPECT_EQ(actual.base, expected.base);
  EXPECT_EQ(actual.limit, expected.limit);
  EXPECT_EQ(actual.selector, expected.selector);
  EXPECT_EQ(actual.type, expected.type);
  EXPECT_EQ(actual.present, expected.present);
  EXPECT_EQ(actual.dpl, expected.dpl);
  EXPECT_EQ(actual.db, expected.db);
  EXPECT_EQ(actual.s, expected.s);
  EXPECT_EQ(actual.l, expected.l);
  EXPECT_EQ(actual.g, expected.g);
}

TEST(VcpuStateTest, Linux64GetsTheZeroPageInRsi) {
  kvm_regs registers = boot_registers(kLinux64);
  EXPECT_EQ(registers.rip, 0x1000200u);
  EXPECT_EQ(registers.rsi, layout::kZeroPage);
  EXPECT_EQ(registers.rflags, 2u) << "interrupts off";
}

TEST(VcpuStateTest, PvhGetsTheStartInfoInRbx) {
  kvm_regs registers = boot_registers(kPvh);
  EXPECT_EQ(registers.rip, 0x1000040u);
  EXPECT_EQ(registers.rbx, layout::kPvhStartInfo);
  EXPECT_EQ(registers.rflags, 2u);
}

TEST(VcpuStateTest, Linux64StartsInLongModeOnTheIdentityMap) {
  kvm_sregs reset{};
  reset.cr0 = 0x60000010;  // as KVM gives it: caches off
  reset.apic_base = 0xfee00900;
  kvm_sregs registers = boot_system_registers(kLinux64, reset);
  EXPECT_EQ(registers.cr0, 0x80000011u) << "PG, ET, PE; caches on";
  EXPECT_EQ(registers.cr3, layout::kPageTables);
  EXPECT_EQ(registers.cr4, 0x20u) << "PAE";
  EXPECT_EQ(registers.efer, 0x500u) << "LME, LMA";
  EXPECT_EQ(registers.apic_base, 0xfee00900u) << "kept";
  EXPECT_EQ(registers.cs.selector, 0x10) << "__BOOT_CS";
  EXPECT_EQ(registers.ds.selector, 0x18) << "__BOOT_DS";
  EXPECT_EQ(registers.cs.l, 1);
}

TEST(VcpuStateTest, PvhStartsIn32BitsWithoutPaging) {
  kvm_sregs reset{};
  reset.cr4 = 0x20;
  reset.efer = 0x500;
  kvm_sregs registers = boot_system_registers(kPvh, reset);
  EXPECT_EQ(registers.cr0, 0x11u);
  EXPECT_EQ(registers.cr4, 0u);
  EXPECT_EQ(registers.efer, 0u);
  EXPECT_EQ(registers.cs.type, 0xb);
  EXPECT_EQ(registers.cs.db, 1);
  EXPECT_EQ(registers.cs.l, 0);
  EXPECT_EQ(registers.tr.limit, 0x67u);
}

TEST(VcpuStateTest, SegmentRegistersAreWhatTheGdtSays) {
  for (const BootEntry& entry : {kLinux64, kPvh}) {
    kvm_sregs registers = boot_system_registers(entry, {});
    EXPECT_EQ(registers.gdt.base, layout::kGdt);
    EXPECT_EQ(registers.gdt.limit, sizeof gdt::kTable - 1);
    expect_same(registers.cs, from_gdt(registers.cs.selector), "cs");
    expect_same(registers.ds, from_gdt(registers.ds.selector), "ds");
    expect_same(registers.es, from_gdt(registers.es.selector), "es");
    expect_same(registers.ss, from_gdt(registers.ss.selector), "ss");
    expect_same(registers.tr, from_gdt(registers.tr.selector), "tr");
  }
}

TEST(VcpuStateTest, MsrsStartTheClockAtZeroWithWriteBackMemory) {
  std::map<std::uint32_t, std::uint64_t> msrs;
  for (const kvm_msr_entry& msr : boot_msrs()) {
    EXPECT_TRUE(msrs.emplace(msr.index, msr.data).second) << "twice: " << msr.index;
  }
  EXPECT_EQ(msrs.at(0x10), 0u) << "TSC";
  EXPECT_EQ(msrs.at(0x1a0), 1u) << "fast strings";
  EXPECT_EQ(msrs.at(0x2ff), 0x806u) << "MTRRs on, default write-back";
  for (std::uint32_t index :
       {0x174U, 0x175U, 0x176U, 0xc0000081U, 0xc0000082U, 0xc0000083U, 0xc0000084U, 0xc0000102U}) {
    EXPECT_EQ(msrs.at(index), 0u) << index;
  }
}

TEST(VcpuStateTest, FpuIsAsAfterFninit) {
  EXPECT_EQ(boot_fpu().fcw, 0x37f);
  EXPECT_EQ(boot_fpu().mxcsr, 0x1f80u);
}

}  // namespace
}  // namespace balloon::vmm
