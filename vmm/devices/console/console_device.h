// SPDX-License-Identifier: Apache-2.0
// How the machine makes its virtio console.
#pragma once

#include <memory>

#include "base/error.h"
#include "vmm/event_loop.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

class SerialBackend;
/// The virtio console; `backend` must outlive it. Fails only when the process is out of file descriptors.
Result<std::unique_ptr<VirtioDevice>> make_console(SerialBackend& backend, EventLoop& loop);

}  // namespace balloon::vmm
