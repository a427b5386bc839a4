// SPDX-License-Identifier: Apache-2.0
// Flags of a guest that is in order, and what is wrong when something is not.
#pragma once

#include <string>

#include "vmm/machine/config.h"

namespace balloon::vmm::test {

inline Flags good() {
  Flags flags;
  flags.name = "web-1";
  flags.memory = "2G";
  flags.kernel = "/boot/vmlinuz";
  return flags;
}
inline std::string error_of(const Flags& flags) {
  const auto config = make_config(flags);
  return config ? "no error" : config.error().message;
}

}  // namespace balloon::vmm::test
