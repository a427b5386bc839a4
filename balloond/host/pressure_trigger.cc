#include "balloond/host/pressure_trigger.h"

#include <fcntl.h>

#include <cerrno>
#include <string_view>

namespace balloon::daemon {

Result<UniqueFd> open_pressure_trigger(const std::string& root) {
  constexpr std::string_view kTrigger{"some 150000 1000000", sizeof("some 150000 1000000")};  // with its zero byte
  const std::string path = root + "/proc/pressure/memory";
  UniqueFd file(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!file) return fail_errno("cannot open " + path, errno);
  if (::write(file.get(), kTrigger.data(), kTrigger.size()) < 0) return fail_errno("cannot set a trigger in " + path, errno);
  return file;
}

}  // namespace balloon::daemon
