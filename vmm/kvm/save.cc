// SPDX-License-Identifier: Apache-2.0
// Reading and setting all that KVM keeps of a machine. The order of setting is that of Firecracker and QEMU:
// CPUID before everything that is checked against it; system registers (with the APIC's base) before the
// local APIC; the MSRs, of which one is the TSC deadline, after it.
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/kvm/list.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

namespace balloon::vmm {
namespace {

constexpr std::uint32_t kTscMsr = 0x10;
constexpr std::size_t kXsaveSize = sizeof(kvm_xsave::region);
static_assert(kXsaveSize == 4096);
// By hand, for the reason that list.h gives: struct kvm_xsave ends in an array of no size.
using XsaveArea = std::array<std::byte, kXsaveSize>;
constexpr unsigned long kKvmGetXsave = _IOR(KVMIO, 0xa4, XsaveArea);
constexpr unsigned long kKvmSetXsave = _IOW(KVMIO, 0xa5, XsaveArea);
constexpr unsigned long kKvmGetXsave2 = _IOR(KVMIO, 0xcf, XsaveArea);
constexpr int kCapXsave2 = 208;  // KVM_CAP_XSAVE2
/// The kernel takes no larger list in one call (MAX_IO_MSRS in arch/x86/kvm/x86.c).
constexpr std::size_t kMsrsAtOnce = 256;

Result<void> call(int fd, unsigned long request, void* argument, const char* what) {
  if (::ioctl(fd, request, argument) != 0) return fail_errno(what, errno);
  return {};
}

/// Reads all of `indices` that this vCPU has: KVM's list also names MSRs of features that the guest was not
/// given, and reading stops at the first that is not there.
Result<std::vector<kvm_msr_entry>> get_msrs(int fd, std::span<const std::uint32_t> indices) {
  std::vector<kvm_msr_entry> read;
  while (!indices.empty()) {
    const auto batch = indices.first(std::min(indices.size(), kMsrsAtOnce));
    std::vector<kvm_msr_entry> wanted(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) wanted[i].index = batch[i];
    KvmList<kvm_msr_entry> list{std::span<const kvm_msr_entry>(wanted)};
    const int got = ::ioctl(fd, kKvmGetMsrs, list.data());
    if (got < 0) return fail_errno("reading its MSRs", errno);
    const auto entries = list.entries();
    read.insert(read.end(), entries.begin(), entries.begin() + got);
    const auto done = std::min<std::size_t>(static_cast<std::size_t>(got), batch.size());
    indices = indices.subspan(done < batch.size() ? done + 1 : done);
  }
  return read;
}

Result<void> set_msrs(int fd, std::span<const kvm_msr_entry> msrs) {
  while (!msrs.empty()) {
    const auto batch = msrs.first(std::min(msrs.size(), kMsrsAtOnce));
    KvmList<kvm_msr_entry> list(batch);
    const int set = ::ioctl(fd, kKvmSetMsrs, list.data());
    if (set < 0) return fail_errno("setting its MSRs", errno);
    const auto done = static_cast<std::size_t>(set);
    // Some are read-only on some hosts (feature MSRs): they have the right value, or nothing would help.
    if (done < batch.size() && batch[done].data != 0) {
      kvm_msr_entry probe{};
      probe.index = batch[done].index;
      KvmList<kvm_msr_entry> one{std::span<const kvm_msr_entry>(&probe, 1)};
      const bool same =
          ::ioctl(fd, kKvmGetMsrs, one.data()) == 1 && one.entries()[0].data == batch[done].data;
      if (!same) {
        return fail(
            fmt::format("this host's KVM refuses MSR {:#x} with {:#x}: restore on a host with the same CPU",
                        batch[done].index, batch[done].data));
      }
    }
    msrs = msrs.subspan(done < batch.size() ? done + 1 : done);
  }
  return {};
}

}  // namespace

Result<VcpuSnapshot> Vcpu::save() const {
  const int fd = fd_.get();
  VcpuSnapshot state;
  state.cpuid = cpuid_;
  const int tsc_khz = ::ioctl(fd, KVM_GET_TSC_KHZ, 0);
  state.tsc_khz = tsc_khz > 0 ? static_cast<std::uint32_t>(tsc_khz) : 0;
  BALLOON_TRY(call(fd, KVM_GET_MP_STATE, &state.mp_state, "reading its run state"));
  BALLOON_TRY(call(fd, KVM_GET_REGS, &state.registers, "reading its registers"));
  BALLOON_TRY(call(fd, KVM_GET_SREGS, &state.system_registers, "reading its system registers"));
  const int xsave2 = ::ioctl(vm_.fd(), KVM_CHECK_EXTENSION, kCapXsave2);
  state.xsave.resize(std::max(kXsaveSize, static_cast<std::size_t>(std::max(xsave2, 0))));
  BALLOON_TRY(call(fd, xsave2 > 0 ? kKvmGetXsave2 : kKvmGetXsave, state.xsave.data(), "reading its FPU"));
  BALLOON_TRY(call(fd, KVM_GET_XCRS, &state.xcrs, "reading its extended control registers"));
  BALLOON_TRY(call(fd, KVM_GET_DEBUGREGS, &state.debug_registers, "reading its debug registers"));
  BALLOON_TRY(call(fd, KVM_GET_LAPIC, &state.local_apic, "reading its local APIC"));
  const auto indices = vm_.kvm().state_msrs();
  if (!indices) return std::unexpected(indices.error());
  auto msrs = get_msrs(fd, *indices);
  if (!msrs) return std::unexpected(msrs.error());
  state.msrs = std::move(*msrs);
  BALLOON_TRY(call(fd, KVM_GET_VCPU_EVENTS, &state.events, "reading its pending events"));
  return state;
}

Result<void> Vcpu::load(const VcpuSnapshot& snapshot) {
  const int fd = fd_.get();
  VcpuSnapshot state = snapshot;  // the kernel takes no const
  BALLOON_TRY(set_cpuid(state.cpuid));
  // Only where the host's frequency differs: that needs TSC scaling, and a host without it must say so.
  if (const int khz = ::ioctl(fd, KVM_GET_TSC_KHZ, 0); state.tsc_khz != 0 && khz > 0 &&
                                                       static_cast<std::uint32_t>(khz) != state.tsc_khz &&
                                                       ::ioctl(fd, KVM_SET_TSC_KHZ, state.tsc_khz) != 0) {
    return fail(fmt::format("its TSC ran at {} kHz, this host's at {} kHz, and KVM cannot scale it here",
                            state.tsc_khz, khz));
  }
  BALLOON_TRY(call(fd, KVM_SET_MP_STATE, &state.mp_state, "setting its run state"));
  BALLOON_TRY(call(fd, KVM_SET_REGS, &state.registers, "setting its registers"));
  BALLOON_TRY(call(fd, KVM_SET_SREGS, &state.system_registers, "setting its system registers"));
  const auto xsave2 =
      static_cast<std::size_t>(std::max(::ioctl(vm_.fd(), KVM_CHECK_EXTENSION, kCapXsave2), 0));
  if (state.xsave.size() > std::max(kXsaveSize, xsave2)) {
    return fail(fmt::format("its FPU state has {} bytes, this host's CPU has {}", state.xsave.size(),
                            std::max(kXsaveSize, xsave2)));
  }
  state.xsave.resize(std::max(kXsaveSize, xsave2));
  BALLOON_TRY(call(fd, kKvmSetXsave, state.xsave.data(), "setting its FPU"));
  // KVM reads none on a CPU without XSAVE, and there refuses even to set none.
  if (state.xcrs.nr_xcrs > 0)
    BALLOON_TRY(call(fd, KVM_SET_XCRS, &state.xcrs, "setting its extended control registers"));
  BALLOON_TRY(call(fd, KVM_SET_DEBUGREGS, &state.debug_registers, "setting its debug registers"));
  BALLOON_TRY(call(fd, KVM_SET_LAPIC, &state.local_apic, "setting its local APIC"));
  // The TSC first: the deadline counts on it.
  std::ranges::stable_partition(state.msrs, [](const auto& msr) { return msr.index == kTscMsr; });
  BALLOON_TRY(vmm::set_msrs(fd, state.msrs));
  return call(fd, KVM_SET_VCPU_EVENTS, &state.events, "setting its pending events");
}

void Vcpu::mark_clock_stopped() const {
  // Fails for a guest without kvm-clock, which has no flag.
  ::ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0);
}

Result<std::uint64_t> Vm::clock() const {
  kvm_clock_data data{};
  BALLOON_TRY(call(fd(), KVM_GET_CLOCK, &data, "reading the guest's clock"));
  return data.clock;
}

Result<void> Vm::set_clock(std::uint64_t nanoseconds) const {
  kvm_clock_data data{};
  data.clock = nanoseconds;
  return call(fd(), KVM_SET_CLOCK, &data, "setting the guest's clock");
}

Result<VmSnapshot> Vm::save() const {
  VmSnapshot state;
  for (std::uint32_t chip = 0; chip < state.irqchips.size(); ++chip) {
    state.irqchips[chip].chip_id = chip;
    BALLOON_TRY(call(fd(), KVM_GET_IRQCHIP, &state.irqchips[chip], "reading an interrupt controller"));
  }
  BALLOON_TRY(call(fd(), KVM_GET_PIT2, &state.pit, "reading the timer"));
  const auto now = clock();
  if (!now) return std::unexpected(now.error());
  state.clock = *now;
  return state;
}

Result<void> Vm::load(const VmSnapshot& snapshot) const {
  VmSnapshot state = snapshot;
  for (kvm_irqchip& chip : state.irqchips)
    BALLOON_TRY(call(fd(), KVM_SET_IRQCHIP, &chip, "setting an interrupt controller"));
  BALLOON_TRY(call(fd(), KVM_SET_PIT2, &state.pit, "setting the timer"));
  return set_clock(state.clock);
}

}  // namespace balloon::vmm
