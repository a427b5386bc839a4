// SPDX-License-Identifier: Apache-2.0
// How the machine makes its network devices.
#pragma once

#include <memory>

#include "base/error.h"
#include "vmm/devices/net/net_config.h"
#include "vmm/devices/net/net_control.h"
#include "vmm/event_loop.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

/// The network device and its control; both point to one object, which `device` owns.
struct NetDevice {
  std::unique_ptr<VirtioDevice> device;
  NetControl* control;
};
/// Opens the taps and chooses the address, for as long as the guest has them, through all its reboots. Fails
/// with what is wrong with the tap: no such interface, no permission, busy; or with the address.
Result<NetPort> open_net_port(const NetConfig& config);
/// One device at a time on a port. Fails with what is wrong with the taps, or with vhost, where it must be.
Result<NetDevice> make_net(const NetConfig& config, const NetPort& port, const GuestMemory& memory,
                           EventLoop& loop);

}  // namespace balloon::vmm
