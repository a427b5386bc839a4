// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "balloond/config/daemon_config.h"

namespace balloon::daemon {
namespace {

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// Who serves the socket at `path`: its process, or nothing when nobody does.
std::optional<pid_t> server_of(const std::string& path) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) return std::nullopt;
  const sockaddr_un address = address_of(path);
  // EAGAIN: it is served, by someone whose queue is full.
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
      errno != EAGAIN) {
    return std::nullopt;
  }
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return 0;
  return peer.pid;
}

std::unexpected<Error> already_served(const std::string& path, pid_t pid) {
  const std::string who = pid > 0 ? fmt::format("process {}", pid) : "another process";
  return fail(fmt::format(
      "socket {} is already served by {}: stop it, or give this daemon another socket.path", path, who));
}

Result<void> clear_the_way(const std::string& path) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno("cannot look at " + path, errno);
  }
  if (!S_ISSOCK(found.st_mode))
    return fail(fmt::format("{} exists and is not a socket: it is not replaced", path));
  if (const auto pid = server_of(path)) return already_served(path, *pid);
  if (::unlink(path.c_str()) != 0) return fail_errno("cannot replace the stale socket " + path, errno);
  return {};
}

Result<UniqueFd> take_lock(const std::string& path) {
  const std::string lock_path = path + ".lock";
  UniqueFd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return fail_errno("cannot create " + lock_path, errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return already_served(path, server_of(path).value_or(0));
  return lock;
}

Result<gid_t> find_group(const std::string& name) {
  std::vector<char> buffer(16384);  // sysconf(_SC_GETGR_R_SIZE_MAX) is 1024 and only a hint
  group entry{};
  group* found = nullptr;
  const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) {
    if (error != 0) return fail_errno(fmt::format("cannot look up group '{}'", name), error);
    return fail(fmt::format("group '{}' (socket.group) does not exist on this host", name));
  }
  return entry.gr_gid;
}

/// A daemon that has the group already needs no right to change groups (the unit's Group=, say).
Result<void> give_to_group(const std::string& path, gid_t gid, const std::string& name) {
  struct stat made{};
  if (::lstat(path.c_str(), &made) == 0 && made.st_gid == gid) return {};
  if (::chown(path.c_str(), static_cast<uid_t>(-1), gid) == 0) return {};
  const Error plain = fail_errno(fmt::format("cannot give socket {} to group {}", path, name), errno).error();
  return fail(plain.message + ": let the daemon run in that group (under systemd by Group= in a drop-in)");
}

/// With mode and group in place before anyone can connect, which nobody can before listen().
Result<UniqueFd> bind_at(const std::string& path, mode_t mode, const std::string& group) {
  BALLOON_TRY(clear_the_way(path));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("cannot make a socket", errno);
  const sockaddr_un address = address_of(path);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno("cannot create socket " + path, errno);
  }
  if (!group.empty()) {
    const auto gid = find_group(group);
    if (!gid) return std::unexpected(gid.error());
    BALLOON_TRY(give_to_group(path, *gid, group));
  }
  if (::chmod(path.c_str(), mode) != 0) return fail_errno("cannot set the mode of socket " + path, errno);
  // Who comes while the queue is full is refused: VMMs dial all at once when the daemon comes back, and a
  // crowd keeps nobody out. It is as long as the kernel lets it be (net.core.somaxconn, 4,096 since
  // Linux 5.4).
  if (::listen(socket.get(), SOMAXCONN) != 0) return fail_errno("cannot listen on socket " + path, errno);
  return socket;
}

}  // namespace

Result<UnixSocket> UnixSocket::listen(const std::string& path, mode_t mode, const std::string& group) {
  if (path.size() > kSocketPathMax) {
    return fail(fmt::format("socket path {} has {} characters: the most for a Unix socket is {}", path,
                            path.size(), kSocketPathMax));
  }
  auto lock = take_lock(path);
  if (!lock) return std::unexpected(lock.error());
  auto socket = bind_at(path, mode, group);
  if (!socket) return std::unexpected(socket.error());
  return UnixSocket(path, mode, group, std::move(*lock), std::move(*socket));
}

UnixSocket::UnixSocket(std::string path, mode_t mode, std::string group, UniqueFd lock, UniqueFd socket)
    : path_(std::move(path)),
      mode_(mode),
      group_(std::move(group)),
      lock_(std::move(lock)),
      socket_(std::move(socket)) {
  note_inode();
}

void UnixSocket::note_inode() {
  struct stat own{};
  if (::lstat(path_.c_str(), &own) != 0) return;
  device_ = own.st_dev;
  inode_ = own.st_ino;
}

bool UnixSocket::is_in_place() const {
  struct stat found{};
  return ::lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ && found.st_ino == inode_;
}

Result<void> UnixSocket::renew() {
  auto socket = bind_at(path_, mode_, group_);
  if (!socket) return std::unexpected(socket.error());
  socket_ = std::move(*socket);
  note_inode();
  return {};
}

UnixSocket::~UnixSocket() { close(); }

void UnixSocket::close() {
  if (!socket_) return;
  if (is_in_place()) ::unlink(path_.c_str());
  socket_.reset();
}

}  // namespace balloon::daemon
