// SPDX-License-Identifier: Apache-2.0
#include "vmm/arch/x86_64/vcpu_state.h"

#include "vmm/arch/x86_64/gdt.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
namespace {

/// RFLAGS with its one reserved bit: interrupts, traps and virtual-8086 mode off, as both protocols want.
constexpr std::uint64_t kFlagsReserved = 1 << 1;

// Control register and EFER bits (Intel SDM volume 3, 2.5 and 2.2.1).
constexpr std::uint64_t kCr0ProtectionEnable = 1 << 0;
constexpr std::uint64_t kCr0ExtensionType = 1 << 4;
constexpr std::uint64_t kCr0Paging = std::uint64_t{1} << 31;
constexpr std::uint64_t kCr4PhysicalAddressExtension = 1 << 5;
constexpr std::uint64_t kEferLongModeEnable = 1 << 8;
constexpr std::uint64_t kEferLongModeActive = 1 << 10;

// Model-specific registers (Intel SDM volume 4, table 2-2).
constexpr std::uint32_t kMsrTsc = 0x10;
constexpr std::uint32_t kMsrSysenterCs = 0x174;
constexpr std::uint32_t kMsrSysenterEsp = 0x175;
constexpr std::uint32_t kMsrSysenterEip = 0x176;
constexpr std::uint32_t kMsrMiscEnable = 0x1a0;
constexpr std::uint32_t kMsrMtrrDefaultType = 0x2ff;
constexpr std::uint32_t kMsrStar = 0xc0000081;
constexpr std::uint32_t kMsrLstar = 0xc0000082;
constexpr std::uint32_t kMsrCstar = 0xc0000083;
constexpr std::uint32_t kMsrSyscallMask = 0xc0000084;
constexpr std::uint32_t kMsrKernelGsBase = 0xc0000102;
constexpr std::uint64_t kMiscEnableFastStrings = 1 << 0;
constexpr std::uint64_t kMtrrEnable = 1 << 11;
constexpr std::uint64_t kMtrrWriteBack = 6;

constexpr std::uint16_t kFpuControlWord = 0x37f;
constexpr std::uint32_t kMxcsr = 0x1f80;

kvm_segment segment(std::uint16_t selector, const gdt::Descriptor& descriptor) {
  kvm_segment result{};
  result.selector = selector;
  result.limit = descriptor.limit;
  result.type = descriptor.type;
  result.present = 1;
  result.s = descriptor.code_or_data;
  result.l = descriptor.long_mode;
  result.db = descriptor.default_32;
  result.g = descriptor.page_granularity;
  return result;
}

}  // namespace

kvm_regs boot_registers(const BootEntry& entry) {
  kvm_regs registers{};
  registers.rflags = kFlagsReserved;
  registers.rip = entry.instruction;
  registers.rsp = layout::kBootStack;
  switch (entry.protocol) {
    case BootEntry::Protocol::linux64:
      registers.rsi = entry.parameters;
      break;
    case BootEntry::Protocol::pvh:
      registers.rbx = entry.parameters;
      break;
  }
  return registers;
}

kvm_sregs boot_system_registers(const BootEntry& entry, kvm_sregs from_kvm) {
  kvm_sregs registers = from_kvm;
  const kvm_segment data = segment(gdt::kData, gdt::kDataDescriptor);
  registers.ds = registers.es = registers.fs = registers.gs = registers.ss = data;
  registers.tr = segment(gdt::kTss, gdt::kTssDescriptor);
  registers.gdt = {.base = layout::kGdt, .limit = sizeof gdt::kTable - 1, .padding = {}};
  registers.idt = {.base = 0, .limit = 0, .padding = {}};
  switch (entry.protocol) {
    case BootEntry::Protocol::linux64:
      registers.cs = segment(gdt::kCode64, gdt::kCode64Descriptor);
      registers.cr0 = kCr0ProtectionEnable | kCr0ExtensionType | kCr0Paging;
      registers.cr3 = layout::kPageTables;
      registers.cr4 = kCr4PhysicalAddressExtension;
      registers.efer = kEferLongModeEnable | kEferLongModeActive;
      break;
    case BootEntry::Protocol::pvh:
      registers.cs = segment(gdt::kCode32, gdt::kCode32Descriptor);
      registers.cr0 = kCr0ProtectionEnable | kCr0ExtensionType;
      registers.cr3 = 0;
      registers.cr4 = 0;
      registers.efer = 0;
      break;
  }
  return registers;
}

std::vector<kvm_msr_entry> boot_msrs() {
  auto msr = [](std::uint32_t index, std::uint64_t value) {
    return kvm_msr_entry{.index = index, .reserved = 0, .data = value};
  };
  return {
      msr(kMsrSysenterCs, 0),
      msr(kMsrSysenterEsp, 0),
      msr(kMsrSysenterEip, 0),
      msr(kMsrStar, 0),
      msr(kMsrCstar, 0),
      msr(kMsrKernelGsBase, 0),
      msr(kMsrSyscallMask, 0),
      msr(kMsrLstar, 0),
      msr(kMsrTsc, 0),
      msr(kMsrMiscEnable, kMiscEnableFastStrings),
      msr(kMsrMtrrDefaultType, kMtrrEnable | kMtrrWriteBack),
  };
}

kvm_fpu boot_fpu() {
  kvm_fpu fpu{};
  fpu.fcw = kFpuControlWord;
  fpu.mxcsr = kMxcsr;
  return fpu;
}

}  // namespace balloon::vmm
