// SPDX-License-Identifier: Apache-2.0
// What the balloon device is told.
#pragma once

#include "base/bytes.h"
#include "vmm/devices/identity.h"

namespace balloon::vmm {

struct BalloonConfig {
  bool enabled = true;     ///< false: the guest has none
  Bytes initial_target{};  ///< 0: the boot memory (an empty balloon)
  bool deflate_on_oom = true;
  bool free_page_reporting = true;
  /// Off: what reporting gives back all the time needs no hinting, and a guest that clears what it allocates
  /// (init_on_alloc) touches all of its free memory to hint it.
  bool free_page_hinting = false;
  DeviceIdentity identity{};
};

}  // namespace balloon::vmm
