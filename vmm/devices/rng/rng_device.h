// SPDX-License-Identifier: Apache-2.0
// How the machine makes its entropy device.
#pragma once

#include <memory>

#include "base/error.h"
#include "vmm/devices/rng/rng_config.h"
#include "vmm/event_loop.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

/// Fails only when the process is out of file descriptors.
Result<std::unique_ptr<VirtioDevice>> make_rng(const RngConfig& config, EventLoop& loop);

}  // namespace balloon::vmm
