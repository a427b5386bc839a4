// SPDX-License-Identifier: Apache-2.0
// The registers, MSRs and CPUID with which a vCPU starts. Pure: fills KVM's structures, makes no call.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

#include "vmm/boot/boot.h"

namespace balloon::vmm {

/// General registers at the kernel's first instruction.
kvm_regs boot_registers(const BootEntry& entry);
/// Segment and control registers there, starting from what KVM_GET_SREGS gave.
kvm_sregs boot_system_registers(const BootEntry& entry, kvm_sregs from_kvm);
/// MSRs to set on every vCPU before it runs.
std::vector<kvm_msr_entry> boot_msrs();
/// x87 and SSE state at reset (FCW 0x37f, MXCSR 0x1f80).
kvm_fpu boot_fpu();

struct CpuidConfig {
  std::uint32_t vcpu = 0;  ///< index, also its APIC id
  std::uint32_t vcpus = 1;
  /// KVM_CAP_TSC_DEADLINE_TIMER: KVM_GET_SUPPORTED_CPUID omitted the bit before Linux 6.14.
  bool tsc_deadline_timer = false;
};
/// What the guest sees, from KVM_GET_SUPPORTED_CPUID's answer: own topology, hypervisor bit, KVM leaves,
/// no PMU, nothing for nested guests, no TSC that Linux would prefer to kvm-clock.
std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> supported, const CpuidConfig& config);

}  // namespace balloon::vmm
