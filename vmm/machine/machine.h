// SPDX-License-Identifier: Apache-2.0
// One life of the virtual machine, from its first instruction to its power-off or reboot. It is built,
// started, ends, and is destroyed; a reboot builds the next one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/bus.h"
#include "vmm/devices/balloon/no_balloon.h"
#include "vmm/devices/serial/backend.h"
#include "vmm/devices/serial/uart.h"
#include "vmm/event_loop.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/config.h"
#include "vmm/machine/guest_assets.h"
#include "vmm/machine/outcome.h"
#include "vmm/machine/power.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_root.h"
#include "vmm/virtio/virtio_mmio.h"

namespace balloon::vmm {

class StateReader;

/// What outlives a machine; all of it must.
struct MachineHost {
  const Kvm& kvm;
  EventLoop& loop;
  SerialBackend& serial;
  SerialBackend* console = nullptr;  ///< nullptr: no virtio console
};

class Machine {
 public:
  /// Loads the kernel or the snapshot, sets up devices and vCPUs. No vCPU has run when it returns. One
  /// machine at a time has a guest's `assets`.
  /// `restore`: the snapshot to go on from; empty: it boots.
  static Result<std::unique_ptr<Machine>> create(const VmmConfig& config, const MachineHost& host,
                                                 std::shared_ptr<const GuestAssets> assets,
                                                 const std::string& restore);
  /// The only machine of its guest, which opens the assets, too, and goes on from the snapshot where the
  /// options name one.
  static Result<std::unique_ptr<Machine>> create(const VmmConfig& config, const MachineHost& host);
  ~Machine();  ///< stops the vCPUs, drains the devices
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void start();
  /// Takes the vCPUs out of the guest and its devices to rest: no byte of its memory changes until resume(),
  /// apart from what the host itself does (a moved balloon target). Before start(): it starts paused.
  Result<void> pause();
  Result<void> resume();
  bool paused() const;
  Result<void> press_power_button();
  /// Ends this life; as if the guest had done it.
  void end(Ending ending, std::string why) { outcome_->set(ending, std::move(why), /*by_guest=*/false); }
  std::vector<pid_t> vcpu_threads() const;
  /// Writes everything of the (paused) machine to a file.
  Result<void> save(const std::string& path);

  /// Where the guest has no balloon: one that is empty, and cannot be moved.
  BalloonControl& balloon() { return *balloon_; }
  /// Whether KSM may share equal pages of its memory. From one thread at a time.
  Result<void> set_merging(bool on) { return memory_.set_merging(on); }
  bool merging() const { return memory_.backing().merge; }
  // Both in the order of the configuration.
  std::span<BlockControl* const> disks() const { return disks_; }
  std::span<NetControl* const> nets() const { return nets_; }
  const OutcomeLatch& outcome() const { return *outcome_; }

 private:
  Machine(const VmmConfig& config, const MachineHost& host, std::shared_ptr<const GuestAssets> assets,
          GuestMemory memory, std::unique_ptr<OutcomeLatch> outcome);
  Result<void> add_devices();
  Result<EventLoop*> add_loop(std::string_view kind);
  Result<void> add_balloon();
  void reserve_slots();
  Result<void> add_virtio(std::unique_ptr<VirtioDevice> device, EventLoop& loop,
                          std::optional<unsigned> slot = std::nullopt);
  Result<void> add_mmio(std::unique_ptr<VirtioDevice> device, EventLoop& loop);
  Result<void> add_serial();
  Result<void> add_power();
  void each_loop(const std::function<void(EventLoop&)>& call);
  /// `entry`: where the kernel starts; nullptr: the state comes from a snapshot.
  Result<void> add_vcpus(const BootEntry* entry);
  // In machine_snapshot.cc.
  Result<void> restore(const std::string& path);
  Result<void> restore_state(StateReader& reader);
  void on_vcpu_stop(const VcpuStop& stop);

  const VmmConfig& config_;
  MachineHost host_;
  const std::shared_ptr<const GuestAssets> assets_;
  GuestMemory memory_;
  std::unique_ptr<Vm> vm_;
  Bus ports_;
  Bus mmio_;
  std::unique_ptr<OutcomeLatch> outcome_;
  PowerPorts power_;
  KeyboardReset keyboard_;
  UniqueFd power_button_irq_;
  std::vector<std::unique_ptr<EventLoop>> device_loops_;
  // pci_ or mmio_devices_ own the devices.
  std::vector<BlockControl*> disks_;
  std::vector<NetControl*> nets_;
  PciRoot pci_;
  std::vector<std::unique_ptr<VirtioMmio>> mmio_devices_;
  std::vector<VirtioTransport*> virtio_;  ///< all of them
  PciPorts pci_ports_;
  NoBalloon no_balloon_;
  BalloonControl* balloon_ = &no_balloon_;
  UniqueFd serial_irq_;
  Uart uart_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  mutable Mutex pause_mutex_;
  bool paused_ GUARDED_BY(pause_mutex_) = false;
  std::uint64_t clock_ GUARDED_BY(pause_mutex_) = 0;  ///< the guest's, when it was paused
};

}  // namespace balloon::vmm
