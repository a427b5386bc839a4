// SPDX-License-Identifier: Apache-2.0
// One virtual CPU: its state before the first instruction, and the thread that runs it.
#pragma once

#include <linux/kvm.h>
#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/bus.h"
#include "vmm/kvm/vcpu_snapshot.h"
#include "vmm/kvm/vm.h"

namespace balloon::vmm {

/// Why a vCPU stopped by itself.
struct VcpuStop {
  enum class Why {
    shutdown,  ///< triple fault: on a PC, a reset
    failed,    ///< KVM cannot go on; `message` says why
  };
  Why why;
  std::string message;
};

/// What a vCPU starts with. CPUID is set first: since Linux 6.13 KVM checks MSR accesses against it.
struct VcpuState {
  std::vector<kvm_cpuid_entry2> cpuid;
  std::vector<kvm_msr_entry> msrs;
  kvm_fpu fpu;
  /// Only the first vCPU has registers; the others wait for its INIT and SIPI.
  std::optional<kvm_regs> registers;
  std::function<kvm_sregs(kvm_sregs)> system_registers;
};

class Vcpu {
 public:
  using OnStop = std::function<void(const VcpuStop&)>;

  /// `vm` and the buses must outlive it.
  static Result<std::unique_ptr<Vcpu>> create(const Vm& vm, std::uint32_t index, const VcpuState& state,
                                              const Bus& ports, const Bus& mmio);
  ~Vcpu();  ///< stops and joins
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  /// Runs the guest on a thread of its own. `on_stop` comes from there, at most once, and must not destroy
  /// the vCPU.
  void start(OnStop on_stop);
  /// Asks the thread to end; returns at once.
  void request_stop();

  /// Takes the vCPU out of the guest until resume(); returns at once. Before start(): it does not begin.
  void request_pause();
  /// Waits until it stands between two instructions with nothing of an exit left to be done, or has ended.
  void wait_paused();
  void resume();
  /// Its thread, as the host's tools show it; 0 before it runs.
  pid_t thread_id() const { return thread_id_; }

  // While it is paused, or not yet started.
  Result<VcpuSnapshot> save() const;
  Result<void> load(const VcpuSnapshot& snapshot);
  /// Tells the guest's watchdogs that it was not running: its kvm-clock has a flag for that
  /// (linux/Documentation/virt/kvm/api.rst, KVM_KVMCLOCK_CTRL).
  void mark_clock_stopped() const;

 private:
  Vcpu(const Vm& vm, std::uint32_t index, const Bus& ports, const Bus& mmio);
  Result<void> open();
  Result<void> set_state(const VcpuState& state);
  Result<void> set_cpuid(const std::vector<kvm_cpuid_entry2>& cpuid);
  Result<void> set_msrs(const std::vector<kvm_msr_entry>& msrs);
  Result<void> set_local_apic();
  void run();
  /// Waits for resume() or request_stop().
  void park();
  /// Handles one exit; a value ends the run.
  std::optional<VcpuStop> handle_exit();
  /// Where it stands; only from its own thread.
  std::uint64_t instruction() const;
  void handle_port_access();
  void handle_mmio();

  const Vm& vm_;
  std::uint32_t index_;
  const Bus& ports_;
  const Bus& mmio_;
  UniqueFd fd_;
  kvm_run* run_ = nullptr;
  std::vector<kvm_cpuid_entry2> cpuid_;  ///< as last set
  OnStop on_stop_;
  std::atomic<bool> stop_ = false;
  std::atomic<pid_t> thread_id_ = 0;
  Mutex pause_mutex_;
  std::condition_variable pause_changed_;
  bool pause_ GUARDED_BY(pause_mutex_) = false;   ///< wanted
  bool parked_ GUARDED_BY(pause_mutex_) = false;  ///< reached
  bool ended_ GUARDED_BY(pause_mutex_) = false;
  std::thread thread_;
};

}  // namespace balloon::vmm
