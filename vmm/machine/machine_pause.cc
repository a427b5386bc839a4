// SPDX-License-Identifier: Apache-2.0
// Pausing a machine, and what else is done to one from outside.
#include <unistd.h>

#include "vmm/machine/machine.h"

namespace balloon::vmm {

void Machine::each_loop(const std::function<void(EventLoop&)>& call) {
  call(host_.loop);
  for (const auto& loop : device_loops_) call(*loop);
}

Result<void> Machine::pause() {
  const MutexLock lock(pause_mutex_);
  if (paused_) return {};
  for (const auto& vcpu : vcpus_) vcpu->request_pause();
  for (const auto& vcpu : vcpus_) vcpu->wait_paused();
  // After the vCPUs: what they asked of the devices last is still under way on the loops.
  each_loop([](EventLoop& loop) { loop.pause(); });
  for (VirtioTransport* device : virtio_) device->settle();
  for (NetControl* const net : nets_) net->pause();
  paused_ = true;
  const auto clock = vm_->clock();
  if (!clock) return std::unexpected(clock.error());
  clock_ = *clock;
  return {};
}

Result<void> Machine::resume() {
  const MutexLock lock(pause_mutex_);
  if (!paused_) return {};
  // The guest's clock goes on where it stood: no timer of the guest has run out in one go, and its watchdogs
  // are told not to take the pause for a hang (as QEMU's hw/i386/kvm/clock.c).
  BALLOON_TRY(vm_->set_clock(clock_));
  for (const auto& vcpu : vcpus_) vcpu->mark_clock_stopped();
  paused_ = false;
  for (NetControl* const net : nets_) net->resume();
  each_loop([](EventLoop& loop) { loop.resume(); });
  for (const auto& vcpu : vcpus_) vcpu->resume();
  return {};
}

bool Machine::paused() const {
  const MutexLock lock(pause_mutex_);
  return paused_;
}

Result<void> Machine::press_power_button() {
  const std::uint64_t one = 1;
  if (::write(power_button_irq_.get(), &one, sizeof one) != sizeof one)
    return fail_errno("raising the power button's interrupt", errno);
  return {};
}

std::vector<pid_t> Machine::vcpu_threads() const {
  std::vector<pid_t> threads;
  for (const auto& vcpu : vcpus_) threads.push_back(vcpu->thread_id());
  return threads;
}

}  // namespace balloon::vmm
