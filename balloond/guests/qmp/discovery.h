// SPDX-License-Identifier: Apache-2.0
// Which QMP sockets there are, and when that changes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "balloond/config/qmp_config.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::daemon::qmp {

/// More are no guests' sockets but a mistake in the configuration: each costs a descriptor and some memory.
inline constexpr std::size_t kSocketsMax = 4096;

/// How a socket is used: see QmpSockets.
struct Use {
  bool exclusive = false;
  std::string proxmox{};
  bool operator==(const Use&) const = default;
};

/// Sockets by path; the first of `sources` that has one decides how it is used. A `path` is in it whether or
/// not there is such a file.
std::map<std::string, Use> find_sockets(const std::vector<QmpSockets>& sources);

/// Whether one of `sources` speaks of that path.
bool is_named(const std::vector<QmpSockets>& sources, const std::string& path);

/// Reports files that come and go in the directories of `sources`, by inotify.
class DirectoryWatch {
 public:
  /// Without inotify, or of a directory that is not there yet, nothing is reported: look now and then, too.
  void watch(const std::vector<QmpSockets>& sources);
  int fd() const { return inotify_.get(); }
  /// Names of files that came since the last call, with their directories; reads all there is.
  std::vector<std::string> take_new();

 private:
  UniqueFd inotify_;
  std::map<int, std::string> directories_;
};

}  // namespace balloon::daemon::qmp
