// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/pressure_trigger.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <string_view>

namespace balloon::daemon {

Result<UniqueFd> open_pressure_trigger(const std::string& root) {
  // Without CAP_SYS_RESOURCE the kernel takes only windows of whole 2 s (kernel/sched/psi.c,
  // psi_trigger_create).
  static constexpr std::array triggers{"some 150000 1000000", "some 300000 2000000"};
  const std::string path = root + "/proc/pressure/memory";
  int error = 0;
  for (const std::string_view trigger : triggers) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!file) return fail_errno("cannot open " + path, errno);
    if (::write(file.get(), trigger.data(), trigger.size() + 1) >= 0) return file;  // with the zero byte
    error = errno;
  }
  return fail_errno("cannot set a trigger in " + path, error);
}

}  // namespace balloon::daemon
