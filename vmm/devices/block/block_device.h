// SPDX-License-Identifier: Apache-2.0
// How the machine makes its disks.
#pragma once

#include <memory>

#include "base/error.h"
#include "vmm/devices/block/block_config.h"
#include "vmm/devices/block/block_control.h"
#include "vmm/event_loop.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

/// The disk and its control; both point to one object, which `device` owns.
struct BlockDevice {
  std::unique_ptr<VirtioDevice> device;
  BlockControl* control;
};
class Disk;
/// Opens the image, for as long as the guest has it, through all its reboots. Fails with what is wrong with
/// it: absent, no permission, 0 bytes, not a multiple of 512, in use by another VMM, of a format or with
/// features that are not known.
Result<std::shared_ptr<Disk>> open_disk(const BlockConfig& config);
/// One device at a time on a disk. Fails with what the configuration and the image have against each other.
Result<BlockDevice> make_block(const BlockConfig& config, std::shared_ptr<Disk> disk, EventLoop& loop);

}  // namespace balloon::vmm
