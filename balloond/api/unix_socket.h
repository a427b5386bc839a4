// SPDX-License-Identifier: Apache-2.0
// The daemon's own listening socket: with mode and group, never taking over from a daemon that is alive.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

class UnixSocket {
 public:
  /// Binds `path` and listens, with its permissions in place before anyone can connect. A socket left by a
  /// daemon that died is replaced; one that is served, or a file that is no socket, is refused.
  static Result<UnixSocket> listen(const std::string& path, mode_t mode, const std::string& group);
  UnixSocket(UnixSocket&&) noexcept = default;
  UnixSocket& operator=(UnixSocket&&) = delete;
  /// Removes the socket file, if it is still this one.
  ~UnixSocket();

  /// Nobody connects any more: they are refused, at once. The path stays this daemon's.
  void close();
  /// Whether who connects to the path comes here: somebody may have removed the socket, or put another in its
  /// place.
  bool is_in_place() const;
  /// Makes it again where it was. Refused when something else is there by now.
  Result<void> renew();
  int fd() const { return socket_.get(); }
  const std::string& path() const { return path_; }

 private:
  UnixSocket(std::string path, mode_t mode, std::string group, UniqueFd lock, UniqueFd socket);
  void note_inode();

  std::string path_;
  mode_t mode_;
  std::string group_;
  UniqueFd lock_;  ///< an flock on "<path>.lock", so that of two daemons that start at once one loses
  UniqueFd socket_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace balloon::daemon
