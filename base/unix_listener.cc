// SPDX-License-Identifier: Apache-2.0
#include "base/unix_listener.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace balloon {
namespace {

Result<sockaddr_un> socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(
        fmt::format("the socket path '{}' has {} bytes; it must have 1 to {}: use a shorter directory", path,
                    path.size(), sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

/// Removes what a former process left at `path`; fails when it is alive, or no socket.
Result<void> clear_stale_socket(const std::string& path, const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode))
    return fail(fmt::format("'{}' exists and is no socket: remove it or use another path", path));
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return fail_errno("making a Unix socket", errno);
  const bool refused =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
      errno == ECONNREFUSED;
  if (!refused) return fail(fmt::format("'{}' is already served by another process: use another path", path));
  if (::unlink(path.c_str()) != 0)
    return fail_errno(fmt::format("removing the stale socket '{}'", path), errno);
  return {};
}

}  // namespace

Result<UniqueFd> listen_unix(const std::string& path, mode_t mode) {
  const auto address = socket_address(path);
  if (!address) return std::unexpected(address.error());
  BALLOON_TRY(clear_stale_socket(path, *address));
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno("making a Unix socket", errno);
  // The mode is set before anybody can connect: connecting needs listen().
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0 ||
      ::chmod(path.c_str(), mode) != 0 || ::listen(listener.get(), SOMAXCONN) != 0) {
    return fail_errno(fmt::format("listening on the socket '{}'", path), errno);
  }
  return listener;
}

}  // namespace balloon
