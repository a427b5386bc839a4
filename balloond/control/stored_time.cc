// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/stored_time.h"

#include "base/files.h"

namespace balloon::daemon {

std::string boot_id() {
  constexpr std::size_t kMost = 64;
  const auto text = read_file("/proc/sys/kernel/random/boot_id", kMost);
  if (!text || !*text) return {};
  return (*text)->substr(0, (*text)->find('\n'));
}

}  // namespace balloon::daemon
