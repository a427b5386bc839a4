// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/hinting.h"

namespace balloon::vmm {

void HintingRounds::start() {
  if (++last_ <= kDone) last_ = kDone + 1;  // it wrapped: 0 and 1 mean something else
  command_ = last_;
  started_ = false;
}

bool HintingRounds::received(std::uint32_t id) {
  if (!under_way()) return false;
  if (id == command_) {
    started_ = true;
    return false;
  }
  return started_;  // "stop", or nonsense, which ends it as well
}

}  // namespace balloon::vmm
