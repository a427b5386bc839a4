// SPDX-License-Identifier: Apache-2.0
// Preloaded (ld.so(8), LD_PRELOAD) into a daemon: a host's /proc has no place for ZFS' figures unless ZFS is
// loaded, so that opening them opens the file that ARCSTATS names.
#include <dlfcn.h>
#include <fcntl.h>

#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace {

constexpr char kArcstats[] = "/proc/spl/kstat/zfs/arcstats";

int open_by(const char* function, const char* path, int flags, mode_t mode) {
  using Open = int (*)(const char*, int, ...);
  const auto next = reinterpret_cast<Open>(::dlsym(RTLD_NEXT, function));
  const char* instead = std::getenv("ARCSTATS");
  return next(instead != nullptr && std::strcmp(path, kArcstats) == 0 ? instead : path, flags, mode);
}

mode_t mode_in(int flags, va_list more) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_in(flags, more);
  va_end(more);
  return open_by("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = mode_in(flags, more);
  va_end(more);
  return open_by("open64", path, flags, mode);
}
}
