// SPDX-License-Identifier: Apache-2.0
// Starting in the background, as with QEMU's -daemonize: who started the program has its exit status once the
// guest runs, or cannot.
#pragma once

#include <string>
#include <utility>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

class Daemonize {
 public:
  /// Goes on in a child; the process that was started waits for it and never returns from this. Before any
  /// thread starts.
  static Result<Daemonize> begin();
  /// The guest runs: the process that was started ends with 0, and this one lets go of its terminal. Standard
  /// error stays what it is where that is a file.
  Result<void> ready();

 private:
  explicit Daemonize(UniqueFd parent) : parent_(std::move(parent)) {}
  UniqueFd parent_;
};

/// Writes the number of this process to a file, which goes with the object.
class PidFile {
 public:
  PidFile() = default;
  ~PidFile();
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  Result<void> write(const std::string& path);

 private:
  std::string path_;
};

}  // namespace balloon::vmm
