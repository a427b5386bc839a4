// SPDX-License-Identifier: Apache-2.0
// Connections to a Unix socket that say nothing, in thousands.
#pragma once

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

namespace balloon::test {

/// A connection that says nothing; -1 when it is refused, or has no place in the socket's queue.
inline int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

/// How many this kernel lets wait in the queue of a socket.
inline int longest_queue() {
  int length = 0;
  std::ifstream("/proc/sys/net/core/somaxconn") >> length;
  return length;
}

class Flood {
 public:
  Flood(const std::string& path, int count) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < count; ++i) fds_.push_back(connect_to(path));
  }
  ~Flood() {
    for (const int fd : fds_) ::close(fd);
  }
  Flood(const Flood&) = delete;
  Flood& operator=(const Flood&) = delete;

  auto refused() const { return std::ranges::count(fds_, -1); }
  /// How many the daemon has not ended. Its settings, which gRPC sends first, are read.
  int up() const {
    int count = 0;
    for (const int fd : fds_) {
      std::array<char, 4096> part{};
      ssize_t size = 0;
      while ((size = ::read(fd, part.data(), part.size())) > 0) {
      }
      if (size < 0 && errno == EAGAIN) ++count;
    }
    return count;
  }

 private:
  std::vector<int> fds_;
};

}  // namespace balloon::test
