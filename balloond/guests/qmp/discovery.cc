// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/discovery.h"

#include <fnmatch.h>
#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <system_error>

namespace balloon::daemon::qmp {
namespace {

std::string directory_of(const QmpSockets& source) {
  return source.path.empty() ? source.directory : std::filesystem::path(source.path).parent_path().string();
}

bool matches(const QmpSockets& source, const std::string& name) {
  return ::fnmatch(source.pattern.c_str(), name.c_str(), FNM_PERIOD) == 0;
}

}  // namespace

bool is_named(const std::vector<QmpSockets>& sources, const std::string& path) {
  const std::filesystem::path file(path);
  return std::ranges::any_of(sources, [&](const QmpSockets& source) {
    if (!source.path.empty()) return source.path == path;
    return std::filesystem::path(source.directory) == file.parent_path() &&
           matches(source, file.filename().string());
  });
}

std::map<std::string, Use> find_sockets(const std::vector<QmpSockets>& sources) {
  std::map<std::string, Use> sockets;
  for (const QmpSockets& source : sources) {
    const Use use{.exclusive = source.exclusive, .proxmox = source.proxmox};
    if (!source.path.empty()) {
      sockets.emplace(source.path, use);
      continue;
    }
    std::error_code error;
    for (auto entry = std::filesystem::directory_iterator(source.directory, error);
         !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      std::error_code gone;  // between the listing and this look
      if (!matches(source, entry->path().filename().string()) || !entry->is_socket(gone)) continue;
      if (sockets.size() >= kSocketsMax) return sockets;
      sockets.emplace(entry->path().string(), use);
    }
  }
  return sockets;
}

void DirectoryWatch::watch(const std::vector<QmpSockets>& sources) {
  std::set<std::string> wanted;
  for (const QmpSockets& source : sources) wanted.insert(directory_of(source));
  if (!inotify_) inotify_ = UniqueFd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  for (auto known = directories_.begin(); known != directories_.end();) {
    if (wanted.erase(known->second) > 0) {
      ++known;
    } else {
      ::inotify_rm_watch(inotify_.get(), known->first);
      known = directories_.erase(known);
    }
  }
  for (const std::string& directory : wanted) {
    const int watch = ::inotify_add_watch(inotify_.get(), directory.c_str(),
                                          IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR);
    if (watch >= 0) directories_.insert_or_assign(watch, directory);
  }
}

std::vector<std::string> DirectoryWatch::take_new() {
  std::vector<std::string> files;
  alignas(inotify_event) std::array<char, 16 << 10> buffer;
  while (true) {
    const ssize_t got = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (got <= 0) return files;
    for (const char* at = buffer.data(); at < buffer.data() + got;) {
      const auto& event = *reinterpret_cast<const inotify_event*>(at);
      at += sizeof(inotify_event) + event.len;
      const auto directory = directories_.find(event.wd);
      if ((event.mask & IN_IGNORED) != 0 && directory != directories_.end()) {
        directories_.erase(directory);  // the directory is gone: watched again when it is back
        continue;
      }
      if ((event.mask & (IN_CREATE | IN_MOVED_TO)) == 0 || event.len == 0 || directory == directories_.end())
        continue;
      files.push_back((std::filesystem::path(directory->second) / event.name).string());
    }
  }
}

}  // namespace balloon::daemon::qmp
