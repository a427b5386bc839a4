// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/vcpu.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <span>
#include <utility>

#include "base/log.h"
#include "vmm/kvm/list.h"

namespace balloon::vmm {
namespace {

/// The signal that takes a vCPU thread out of KVM_RUN. It does nothing but interrupt.
int kick_signal() { return SIGRTMIN; }

void install_kick_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action{};
    action.sa_handler = [](int) {};
    sigemptyset(&action.sa_mask);
    ::sigaction(kick_signal(), &action, nullptr);
  });
}

// Local APIC registers (Intel SDM 3, 10.4.1) and delivery modes (10.5.1).
constexpr std::size_t kLint0 = 0x350;
constexpr std::size_t kLint1 = 0x360;
constexpr std::uint32_t kModeMask = 0x700;
constexpr std::uint32_t kModeNmi = 0x400;
constexpr std::uint32_t kModeExtInt = 0x700;

}  // namespace

Vcpu::Vcpu(const Vm& vm, std::uint32_t index, const Bus& ports, const Bus& mmio)
    : vm_(vm), index_(index), ports_(ports), mmio_(mmio) {}

Result<std::unique_ptr<Vcpu>> Vcpu::create(const Vm& vm, std::uint32_t index, const VcpuState& state,
                                           const Bus& ports, const Bus& mmio) {
  install_kick_handler();
  auto vcpu = std::unique_ptr<Vcpu>(new Vcpu(vm, index, ports, mmio));
  const auto doing = fmt::format("setting up vCPU {}", index);
  if (const auto done = vcpu->open(); !done) return fail(doing, done.error());
  if (const auto done = vcpu->set_state(state); !done) return fail(doing, done.error());
  return vcpu;
}

Vcpu::~Vcpu() {
  if (thread_.joinable()) {
    request_stop();
    thread_.join();
  }
  if (run_ != nullptr) ::munmap(run_, vm_.kvm().run_size());
}

Result<void> Vcpu::open() {
  fd_ = UniqueFd(::ioctl(vm_.fd(), KVM_CREATE_VCPU, index_));
  if (!fd_) return fail_errno("creating it", errno);
  void* run = ::mmap(nullptr, vm_.kvm().run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (run == MAP_FAILED) return fail_errno("mapping its run area", errno);
  run_ = static_cast<kvm_run*>(run);
  return {};
}

Result<void> Vcpu::set_state(const VcpuState& state) {
  BALLOON_TRY(set_cpuid(state.cpuid));
  BALLOON_TRY(set_msrs(state.msrs));
  if (::ioctl(fd_.get(), KVM_SET_FPU, &state.fpu) != 0) return fail_errno("setting its FPU", errno);
  BALLOON_TRY(set_local_apic());
  if (!state.registers) return {};
  if (::ioctl(fd_.get(), KVM_SET_REGS, &*state.registers) != 0)
    return fail_errno("setting its registers", errno);
  kvm_sregs system{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &system) != 0)
    return fail_errno("reading its system registers", errno);
  system = state.system_registers(system);
  if (::ioctl(fd_.get(), KVM_SET_SREGS, &system) != 0)
    return fail_errno("setting its system registers", errno);
  return {};
}

Result<void> Vcpu::set_cpuid(const std::vector<kvm_cpuid_entry2>& cpuid) {
  KvmList<kvm_cpuid_entry2> list(cpuid);
  if (::ioctl(fd_.get(), kKvmSetCpuid2, list.data()) != 0) return fail_errno("setting its CPUID", errno);
  cpuid_ = cpuid;
  return {};
}

Result<void> Vcpu::set_msrs(const std::vector<kvm_msr_entry>& msrs) {
  KvmList<kvm_msr_entry> list(msrs);
  const int set = ::ioctl(fd_.get(), kKvmSetMsrs, list.data());
  if (set < 0) return fail_errno("setting its MSRs", errno);
  if (static_cast<std::size_t>(set) != msrs.size()) {
    return fail(fmt::format("KVM refuses MSR {:#x}", msrs[static_cast<std::size_t>(set)].index));
  }
  return {};
}

/// As firmware leaves it: LINT0 takes the PIC's interrupts, LINT1 is the NMI pin.
Result<void> Vcpu::set_local_apic() {
  kvm_lapic_state apic{};
  if (::ioctl(fd_.get(), KVM_GET_LAPIC, &apic) != 0) return fail_errno("reading its local APIC", errno);
  const auto set_mode = [&](std::size_t offset, std::uint32_t mode) {
    std::uint32_t value = 0;
    std::memcpy(&value, apic.regs + offset, sizeof(value));
    value = (value & ~kModeMask) | mode;
    std::memcpy(apic.regs + offset, &value, sizeof(value));
  };
  set_mode(kLint0, kModeExtInt);
  set_mode(kLint1, kModeNmi);
  if (::ioctl(fd_.get(), KVM_SET_LAPIC, &apic) != 0) return fail_errno("setting its local APIC", errno);
  return {};
}

void Vcpu::start(OnStop on_stop) {
  on_stop_ = std::move(on_stop);
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), fmt::format("vcpu-{}", index_).c_str());
    // The thread that started us may block signals; the kick must come through.
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, kick_signal());
    ::pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
    thread_id_ = ::gettid();
    run();
    const MutexLock lock(pause_mutex_);
    ended_ = true;
    pause_changed_.notify_all();
  });
}

void Vcpu::request_stop() {
  {
    const MutexLock lock(pause_mutex_);
    stop_ = true;
    pause_changed_.notify_all();
  }
  if (!thread_.joinable()) return;
  // Before the signal: a thread that is just on its way into KVM_RUN then comes straight out again.
  std::atomic_ref(run_->immediate_exit).store(1);
  ::pthread_kill(thread_.native_handle(), kick_signal());
}

void Vcpu::request_pause() {
  const MutexLock lock(pause_mutex_);
  pause_ = true;
  // As in request_stop().
  std::atomic_ref(run_->immediate_exit).store(1);
  if (thread_.joinable()) ::pthread_kill(thread_.native_handle(), kick_signal());
}

void Vcpu::wait_paused() {
  UniqueLock lock(pause_mutex_);
  if (thread_.joinable())
    pause_changed_.wait(lock.standard(), [this]() REQUIRES(pause_mutex_) { return parked_ || ended_; });
}

void Vcpu::resume() {
  const MutexLock lock(pause_mutex_);
  pause_ = false;
  if (!stop_) std::atomic_ref(run_->immediate_exit).store(0);
  pause_changed_.notify_all();
}

void Vcpu::park() {
  UniqueLock lock(pause_mutex_);
  if (!pause_) return;
  parked_ = true;
  pause_changed_.notify_all();
  pause_changed_.wait(lock.standard(), [this]() REQUIRES(pause_mutex_) { return !pause_ || stop_; });
  parked_ = false;
}

void Vcpu::run() {
  park();  // a machine that is to start paused
  while (!stop_) {
    if (::ioctl(fd_.get(), KVM_RUN, 0) != 0) {
      // EINTR: a kick. KVM has then completed what the last exit left to it, before it looked at
      // immediate_exit: only here does the vCPU stand between two instructions. EAGAIN: a waiting vCPU got
      // its INIT or SIPI; run it again.
      const int error = errno;
      if (error == EINTR) park();
      if (error == EINTR || error == EAGAIN) continue;
      // Of memory that is there EFAULT tells that the host has no page for it, as an empty pool has none.
      const char* remedy = error == EFAULT
                               ? ": the host has no memory for what the guest touched; of huge pages "
                                 "of a pool, there are too few (vm.nr_hugepages)"
                               : "";
      return on_stop_({VcpuStop::Why::failed,
                       fmt::format("vCPU {}: running it: {}{}", index_, std::strerror(error), remedy)});
    }
    if (auto stopped = handle_exit()) return on_stop_(*stopped);
  }
  log::debug("vCPU {}: stopped at {:#x}", index_, instruction());
}

std::uint64_t Vcpu::instruction() const {
  kvm_regs registers{};
  ::ioctl(fd_.get(), KVM_GET_REGS, &registers);
  return registers.rip;
}

std::optional<VcpuStop> Vcpu::handle_exit() {
  const auto failed = [&](std::string what) {
    return VcpuStop{VcpuStop::Why::failed, fmt::format("vCPU {}: {}", index_, what)};
  };
  switch (run_->exit_reason) {
    case KVM_EXIT_IO:
      handle_port_access();
      return std::nullopt;
    case KVM_EXIT_MMIO:
      handle_mmio();
      return std::nullopt;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return std::nullopt;
    case KVM_EXIT_SHUTDOWN:
      return VcpuStop{VcpuStop::Why::shutdown, fmt::format("vCPU {}: triple fault", index_)};
    case KVM_EXIT_SYSTEM_EVENT:
      if (run_->system_event.type == KVM_SYSTEM_EVENT_RESET ||
          run_->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN) {
        return VcpuStop{VcpuStop::Why::shutdown, fmt::format("vCPU {}: system event", index_)};
      }
      return std::nullopt;
    case KVM_EXIT_FAIL_ENTRY:
      return failed(fmt::format("the CPU refused to enter the guest, hardware reason {:#x}",
                                run_->fail_entry.hardware_entry_failure_reason));
    case KVM_EXIT_INTERNAL_ERROR:
      return failed(
          fmt::format("KVM internal error, suberror {} (1: an instruction that it cannot emulate), at {:#x}",
                      run_->internal.suberror, instruction()));
    default:
      return failed(fmt::format("unknown KVM exit reason {}", run_->exit_reason));
  }
}

void Vcpu::handle_port_access() {
  const auto& io = run_->io;
  auto* data = reinterpret_cast<std::byte*>(run_) + io.data_offset;
  for (std::uint32_t i = 0; i < io.count; ++i, data += io.size) {  // string instructions come in one exit
    const std::span<std::byte> bytes(data, io.size);
    if (io.direction == KVM_EXIT_IO_OUT) {
      ports_.write(io.port, bytes);
    } else {
      ports_.read(io.port, bytes);
    }
  }
}

void Vcpu::handle_mmio() {
  auto& access = run_->mmio;
  const std::span<std::byte> bytes(reinterpret_cast<std::byte*>(access.data),
                                   std::min<std::size_t>(access.len, sizeof(access.data)));
  if (access.is_write != 0) {
    mmio_.write(access.phys_addr, bytes);
  } else {
    mmio_.read(access.phys_addr, bytes);
  }
}

}  // namespace balloon::vmm
