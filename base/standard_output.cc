// SPDX-License-Identifier: Apache-2.0
#include "base/standard_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace balloon {

void hold_standard_files() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest number that is free, and so this one; only to read, so that to write is refused.
    if (::open("/dev/null", O_RDONLY) < 0) return;  // NOLINT: it stays open for as long as the program runs
  }
}

Result<void> print_output(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return {};
  auto failure = fail_errno("standard output cannot be written", errno);
  std::clearerr(stdout);  // it is told here, and not by finish_output() again
  return failure;
}

Result<void> finish_output() {
  // A full buffer was written on the way: of that failure only the mark is left, not the error number.
  const bool failed_before = std::ferror(stdout) != 0;
  if (std::fflush(stdout) != 0) return fail_errno("standard output cannot be written", errno);
  if (failed_before) return fail("standard output cannot be written");
  return {};
}

}  // namespace balloon
