// SPDX-License-Identifier: Apache-2.0
// What the entropy device is told.
#pragma once

#include "base/bytes.h"

namespace balloon::vmm {

struct RngConfig {
  bool enabled = true;
  Bytes bytes_per_second{};  ///< 0: no limit
};

}  // namespace balloon::vmm
