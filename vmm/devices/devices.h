// SPDX-License-Identifier: Apache-2.0
// All virtio devices, for the machine, which makes them. A device folder has X_config.h (what it is told),
// X_device.h (how it is made), X_control.h (what is asked of it from outside the guest), where there is such
// a thing, and X.h.
#pragma once

#include "vmm/devices/balloon/balloon_device.h"
#include "vmm/devices/block/block_device.h"
#include "vmm/devices/console/console_device.h"
#include "vmm/devices/net/net_device.h"
#include "vmm/devices/rng/rng_device.h"
