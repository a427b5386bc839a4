// SPDX-License-Identifier: Apache-2.0
// What QEMU's -device calls id= and addr=.
#pragma once

#include <optional>
#include <string>

namespace balloon::vmm {

struct DeviceIdentity {
  std::string id{};  ///< how clients of the monitor name it; empty: its kind and number, "disk0"
  std::optional<unsigned> slot{};  ///< of the PCI bus; unset: the lowest that is free
};

}  // namespace balloon::vmm
