// SPDX-License-Identifier: Apache-2.0
// How the machine makes its balloon.
#pragma once

#include <memory>

#include "base/error.h"
#include "vmm/devices/balloon/balloon_config.h"
#include "vmm/devices/balloon/balloon_control.h"
#include "vmm/event_loop.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

/// The balloon device and its control; both point to one object, which `device` owns.
struct BalloonDevice {
  std::unique_ptr<VirtioDevice> device;
  BalloonControl* control;
};
/// Fails only when the process is out of file descriptors (timer, event).
Result<BalloonDevice> make_balloon(const BalloonConfig& config, const GuestMemory& memory, EventLoop& loop);

}  // namespace balloon::vmm
