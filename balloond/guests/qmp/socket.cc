// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace balloon::daemon::qmp {
namespace {

ConnectFailure failure(ConnectFailure::Kind kind, int error_number) {
  return {.kind = kind, .reason = fail_errno("cannot connect", error_number).error().message};
}

ConnectFailure connect_failure(int error_number) {
  switch (error_number) {
    case ECONNREFUSED:
    case ENOENT:
      return {.kind = ConnectFailure::Kind::gone, .reason = "nobody listens"};
    case EAGAIN:  // the listener's backlog is full (unix(7)); QEMU's has one place
      return {.kind = ConnectFailure::Kind::busy, .reason = "other clients have the socket and wait for it"};
    default:
      return failure(ConnectFailure::Kind::refused, error_number);
  }
}

}  // namespace

std::expected<Connection, ConnectFailure> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return std::unexpected(failure(ConnectFailure::Kind::refused, ENAMETOOLONG));
  std::memcpy(address.sun_path, path.data(), path.size());
  Connection connection{.fd = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
                        .peer = {}};
  if (!connection.fd) return std::unexpected(failure(ConnectFailure::Kind::refused, errno));
  if (::connect(connection.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return std::unexpected(connect_failure(errno));
  // Of a client, the peer is who called listen() (unix(7), SO_PEERCRED): QEMU, or who passed it the socket.
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(connection.fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0)
    connection.peer = {.pid = credentials.pid, .uid = credentials.uid};
  return connection;
}

}  // namespace balloon::daemon::qmp
