// SPDX-License-Identifier: Apache-2.0
// A filesystem of a few MiB that a test can fill: a tmpfs that nobody else sees.
#pragma once

#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "base/bytes.h"

namespace balloon::test {

class SmallFilesystem {
 public:
  /// At `path`, a directory. Needs root; the process has a mount namespace of its own afterwards.
  SmallFilesystem(const std::string& path, Bytes size) : path_(path) {
    check(::unshare(CLONE_NEWNS), "a mount namespace");
    check(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "keeping mounts to oneself");
    check(::mount("tmpfs", path.c_str(), "tmpfs", 0, ("size=" + std::to_string(size.count())).c_str()),
          "a tmpfs");
  }
  ~SmallFilesystem() { ::umount2(path_.c_str(), MNT_DETACH); }
  SmallFilesystem(const SmallFilesystem&) = delete;
  SmallFilesystem& operator=(const SmallFilesystem&) = delete;

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  /// Leaves no room.
  void fill() const {
    std::ofstream filler(file("filler"), std::ios::binary);
    const std::string block(4096, 'x');
    while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void make_room() const { std::filesystem::remove(file("filler")); }

 private:
  static void check(int result, const char* what) {
    if (result != 0)
      throw std::runtime_error(std::string(what) + " (these tests need root): " + std::strerror(errno));
  }
  const std::string path_;
};

}  // namespace balloon::test
