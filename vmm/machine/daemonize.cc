// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/daemonize.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

namespace balloon::vmm {
namespace {

/// Ends with the child: as soon as it says that the guest runs, or else with its exit status.
[[noreturn]] void wait_for(pid_t child, int said) {
  char byte = 0;
  ssize_t count = 0;
  do {
    count = ::read(said, &byte, 1);
  } while (count < 0 && errno == EINTR);
  if (count == 1) ::_exit(0);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

bool is_file(int fd) {
  struct stat status = {};
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

Result<Daemonize> Daemonize::begin() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("making a pipe", errno);
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno("starting in the background", errno);
  if (child > 0) {
    write_end.reset();
    wait_for(child, read_end.get());
  }
  ::setsid();  // a child leads no group: this cannot fail
  return Daemonize(std::move(write_end));
}

Result<void> Daemonize::ready() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail_errno("opening /dev/null", errno);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fd == STDERR_FILENO && is_file(fd)) continue;
    if (::dup2(null.get(), fd) < 0) return fail_errno("letting go of the terminal", errno);
  }
  if (::write(parent_.get(), "r", 1) != 1) return fail_errno("telling that the guest runs", errno);
  parent_.reset();
  return {};
}

Result<void> PidFile::write(const std::string& path) {
  std::ofstream file(path, std::ios::trunc);
  file << ::getpid() << '\n';
  file.close();
  if (!file) return fail_errno(fmt::format("writing the pid file '{}'", path), errno);
  path_ = path;
  return {};
}

PidFile::~PidFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace balloon::vmm
