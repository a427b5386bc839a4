// SPDX-License-Identifier: Apache-2.0
// What KVM keeps of a virtual machine and its vCPUs: read while they stand still, set before they go on.
// Plain data, in KVM's own structures.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace balloon::vmm {

struct VcpuSnapshot {
  std::vector<kvm_cpuid_entry2> cpuid;
  std::uint32_t tsc_khz = 0;
  kvm_mp_state mp_state{};
  kvm_regs registers{};
  kvm_sregs system_registers{};
  std::vector<std::byte> xsave;  ///< struct kvm_xsave, 4096 bytes or more
  kvm_xcrs xcrs{};
  kvm_debugregs debug_registers{};
  kvm_lapic_state local_apic{};
  std::vector<kvm_msr_entry> msrs;
  kvm_vcpu_events events{};
};

struct VmSnapshot {
  std::array<kvm_irqchip, 3> irqchips{};  ///< both PICs, the I/O APIC
  kvm_pit_state2 pit{};
  std::uint64_t clock = 0;  ///< kvm-clock, ns
};

}  // namespace balloon::vmm
