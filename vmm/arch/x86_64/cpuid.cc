// SPDX-License-Identifier: Apache-2.0
// guest_cpuid() of vcpu_state.h: one package, one core a vCPU, one thread a core. Leaves: Intel SDM volume 2
// (CPUID), AMD APM volume 3, appendix E.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>

#include "vmm/arch/x86_64/vcpu_state.h"

namespace balloon::vmm {
namespace {

constexpr std::uint32_t bit(unsigned number) { return std::uint32_t{1} << number; }

/// Puts `value` in bits `low` to `low + width - 1` of `reg`, cut to the largest value that fits.
void set_bits(std::uint32_t& reg, unsigned low, unsigned width, std::uint32_t value) {
  const std::uint32_t limit = bit(width) - 1;
  reg = (reg & ~(limit << low)) | std::min(value, limit) << low;
}

void set_flag(std::uint32_t& reg, unsigned number, bool on) {
  reg = on ? reg | bit(number) : reg & ~bit(number);
}

void clear(kvm_cpuid_entry2& entry) { entry.eax = entry.ebx = entry.ecx = entry.edx = 0; }

/// The machine's shape. APIC ids are vCPU indices, so cores need as many id bits as the highest index has.
struct Topology {
  std::uint32_t apic_id;
  std::uint32_t cores;
  unsigned id_bits;        ///< APIC id bits of the package's cores
  std::uint32_t id_space;  ///< 2^id_bits: what leaves mean by "addressable ids"

  explicit Topology(const CpuidConfig& config)
      : apic_id(config.vcpu),
        cores(config.vcpus),
        id_bits(static_cast<unsigned>(std::bit_width(config.vcpus - 1))),
        id_space(bit(id_bits)) {}
};

constexpr std::uint32_t kTopologyLeaf = 0xb;
constexpr std::uint32_t kTopologyLeafV2 = 0x1f;
constexpr std::uint32_t kAmdTopologyLeafV2 = 0x80000026;

bool is_amd(const std::vector<kvm_cpuid_entry2>& leaves) {
  for (const kvm_cpuid_entry2& leaf : leaves) {
    if (leaf.function != 0) continue;
    std::array<std::uint32_t, 3> text{leaf.ebx, leaf.edx, leaf.ecx};
    std::array<char, sizeof text> vendor;
    std::memcpy(vendor.data(), text.data(), sizeof text);
    std::string_view name(vendor.data(), vendor.size());
    return name == "AuthenticAMD" || name == "HygonGenuine";
  }
  return false;
}

std::uint32_t highest_basic_leaf(const std::vector<kvm_cpuid_entry2>& leaves) {
  auto found = std::ranges::find(leaves, 0U, &kvm_cpuid_entry2::function);
  return found == leaves.end() ? 0 : found->eax;
}

void set_features(kvm_cpuid_entry2& leaf, const Topology& topology, const CpuidConfig& config) {
  set_bits(leaf.ebx, 24, 8, topology.apic_id);
  set_bits(leaf.ebx, 16, 8, topology.id_space);
  set_flag(leaf.edx, 28, topology.cores > 1);  // HTT: the field above is valid
  set_flag(leaf.ecx, 31, true);                // HYPERVISOR
  if (config.tsc_deadline_timer) set_flag(leaf.ecx, 24, true);
  set_flag(leaf.ecx, 15, false);  // PDCM: there is no PMU
  set_flag(leaf.ecx, 5, false);   // VMX: no nested guests
}

/// Leaf 4, and AMD's 0x8000001d, which has the same fields: the first two levels are each core's own, the
/// third is shared.
void set_cache(kvm_cpuid_entry2& leaf, const Topology& topology) {
  constexpr std::uint32_t kNoMoreCaches = 0;
  constexpr std::uint32_t kFirstSharedLevel = 3;
  const std::uint32_t type = leaf.eax & 0x1f;
  const std::uint32_t level = leaf.eax >> 5 & 0x7;
  if (type == kNoMoreCaches) return;
  set_bits(leaf.eax, 14, 12, level >= kFirstSharedLevel ? topology.id_space - 1 : 0);
  if (leaf.function == 4) set_bits(leaf.eax, 26, 6, topology.id_space - 1);
}

void set_amd_features(kvm_cpuid_entry2& leaf, const Topology& topology) {
  set_flag(leaf.ecx, 1, topology.cores > 1);  // CmpLegacy
  set_flag(leaf.ecx, 2, false);               // SVM: no nested guests
  for (unsigned number : {23U, 24U, 27U, 28U})
    set_flag(leaf.ecx, number, false);  // performance counter extensions
}

void set_amd_topology(kvm_cpuid_entry2& leaf, const Topology& topology) {
  leaf.eax = topology.apic_id;
  leaf.ebx = std::min(topology.apic_id, 0xffU);  // core id; one thread a core
  leaf.ecx = 0;                                  // node 0 of one
  leaf.edx = 0;
}

void rewrite(kvm_cpuid_entry2& leaf, const Topology& topology, const CpuidConfig& config, bool amd) {
  switch (leaf.function) {
    case 1:
      set_features(leaf, topology, config);
      break;
    case 4:
      set_cache(leaf, topology);
      break;
    case 5:
      clear(leaf);
      break;  // MONITOR/MWAIT
    case 6:   // power management: only ARAT, that the APIC timer never stops
      leaf.eax &= bit(2);
      leaf.ebx = leaf.ecx = leaf.edx = 0;
      break;
    case 7:
      if (leaf.index == 0) set_flag(leaf.ecx, 5, false);  // WAITPKG: waiting would keep the host's CPU
      break;
    case 0xa:
      clear(leaf);
      break;  // PMU
    case 0x80000001:
      if (amd) set_amd_features(leaf, topology);
      break;
    case 0x80000007:
      // No invariant TSC: Linux would prefer it to kvm-clock (arch/x86/kernel/kvmclock.c, kvmclock_init()),
      // but it goes on while the guest is paused, and at another pace on a host that a snapshot is taken to.
      set_flag(leaf.edx, 8, false);
      break;
    case 0x80000008:
      if (!amd) break;
      set_bits(leaf.ecx, 0, 8, topology.cores - 1);
      set_bits(leaf.ecx, 12, 4, topology.id_bits);
      break;
    case 0x8000000a:
      clear(leaf);
      break;  // SVM
    case 0x8000001d:
      set_cache(leaf, topology);
      break;
    case 0x8000001e:
      set_amd_topology(leaf, topology);
      break;
    case 0x80000022:
      clear(leaf);
      break;  // AMD's PMU
    default:
      break;
  }
}

/// Subleaves of 0xb and 0x1f: threads of a core, cores of the package, end.
void append_topology(std::vector<kvm_cpuid_entry2>& leaves, std::uint32_t function,
                     const Topology& topology) {
  constexpr std::uint32_t kEndLevel = 0;
  constexpr std::uint32_t kThreadLevel = 1;
  constexpr std::uint32_t kCoreLevel = 2;
  auto append = [&](std::uint32_t index, unsigned shift, std::uint32_t count, std::uint32_t level) {
    leaves.push_back({.function = function,
                      .index = index,
                      .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                      .eax = shift,
                      .ebx = count,
                      .ecx = index | level << 8,
                      .edx = topology.apic_id,
                      .padding = {}});
  };
  append(0, 0, 1, kThreadLevel);
  append(1, topology.id_bits, topology.cores, kCoreLevel);
  append(2, 0, 0, kEndLevel);
}

}  // namespace

std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> supported,
                                          const CpuidConfig& config) {
  const Topology topology(config);
  const bool amd = is_amd(supported);
  // KVM gives the host's topology here, or none: replace it. AMD's newer leaf is left out; 0xb says the same.
  std::erase_if(supported, [](const kvm_cpuid_entry2& leaf) {
    return leaf.function == kTopologyLeaf || leaf.function == kTopologyLeafV2 ||
           leaf.function == kAmdTopologyLeafV2;
  });
  for (kvm_cpuid_entry2& leaf : supported) rewrite(leaf, topology, config, amd);
  for (std::uint32_t function : {kTopologyLeaf, kTopologyLeafV2}) {
    if (highest_basic_leaf(supported) >= function) append_topology(supported, function, topology);
  }
  return supported;
}

}  // namespace balloon::vmm
