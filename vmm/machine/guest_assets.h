// SPDX-License-Identifier: Apache-2.0
// What a guest keeps through its reboots.
#pragma once

#include <memory>
#include <vector>

#include "base/error.h"
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"
#include "vmm/machine/config.h"

namespace balloon::vmm {

/// Opened once, by name, before a guest's first machine; each of its machines is built on them. So a reboot
/// lets go of nothing: no other VMM gets the guest's disk meanwhile, files may be moved or unlinked, and its
/// network addresses stay.
struct GuestAssets {
  /// Fails with what is wrong with the first that cannot be had: disks, taps, kernel and initrd.
  static Result<std::shared_ptr<GuestAssets>> open(const VmmConfig& config);

  /// Of a guest that goes on from a snapshot, only its first reboot needs them.
  Result<BootFiles> boot;
  // In the order of the configuration.
  std::vector<std::shared_ptr<Disk>> disks;
  std::vector<NetPort> nets;
};

}  // namespace balloon::vmm
