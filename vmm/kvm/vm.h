// SPDX-License-Identifier: Apache-2.0
// One virtual machine of KVM: memory slots, the in-kernel interrupt controllers and PIT, ioeventfds, irqfds,
// MSI routes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu_snapshot.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_host.h"

namespace balloon::vmm {

class Vm final : public PciHost {
 public:
  /// A VM with irqchip and PIT, and `memory` as its RAM. `kvm` and `memory` must outlive it.
  static Result<std::unique_ptr<Vm>> create(const Kvm& kvm, const GuestMemory& memory);
  ~Vm() override;

  const Kvm& kvm() const { return kvm_; }
  int fd() const { return fd_.get(); }

  /// Signalling `event` (an eventfd) raises the edge-triggered interrupt line `gsi` (0 to 23) of the I/O
  /// APIC.
  Result<void> connect_irq(std::uint32_t gsi, int event);
  void disconnect_irq(std::uint32_t gsi, int event);

  /// The guest's kvm-clock, in nanoseconds. Set when vCPUs go on, so that their clock stood still meanwhile.
  Result<std::uint64_t> clock() const;
  Result<void> set_clock(std::uint64_t nanoseconds) const;
  // While no vCPU runs.
  Result<VmSnapshot> save() const;
  Result<void> load(const VmSnapshot& snapshot) const;

  Result<std::unique_ptr<MsiLine>> new_msi_line() override;
  Result<std::unique_ptr<PinLine>> new_pin_line(std::uint32_t gsi) override;
  Result<void> connect_doorbell(const Doorbell& doorbell, int event) override;
  void disconnect_doorbell(const Doorbell& doorbell, int event) override;

 private:
  class IrqfdLine;
  class SharedPin;
  explicit Vm(const Kvm& kvm) : kvm_(kvm) {}
  /// Before anybody else has it.
  Result<void> set_up(const GuestMemory& memory) NO_THREAD_SAFETY_ANALYSIS;
  Result<void> set_route(std::uint32_t gsi, const MsiMessage& message);
  Result<void> write_routes() REQUIRES(mutex_);
  Result<std::uint32_t> take_gsi();
  void give_back_gsi(std::uint32_t gsi);

  const Kvm& kvm_;
  UniqueFd fd_;
  Mutex mutex_;
  std::set<std::uint32_t> msi_gsis_ GUARDED_BY(mutex_);
  std::map<std::uint32_t, MsiMessage> routes_ GUARDED_BY(mutex_);
  Mutex pins_mutex_;
  std::map<std::uint32_t, unsigned> asserted_ GUARDED_BY(pins_mutex_);  ///< how many lines assert a pin
};

}  // namespace balloon::vmm
