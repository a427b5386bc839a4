// SPDX-License-Identifier: Apache-2.0
// What the kernel counts for one process's cgroup (v2), as far as nobody else is counted with it
// (Documentation/admin-guide/cgroup-v2.rst, "Memory").
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "balloond/host/pseudo_file.h"

namespace balloon::daemon {

struct CgroupMemory {
  policy::Bytes swapped{};                ///< memory.swap.current, shared memory too
  std::optional<policy::Bytes> swap_in;   ///< since the cgroup was made
  std::optional<std::uint64_t> refaults;  ///< pages, since the cgroup was made: workingset_refault_*
  std::optional<double> pressure_some;    ///< memory.pressure, avg10
};

class OwnCgroup {
 public:
  /// `root` goes before /proc and /sys: empty but for tests.
  OwnCgroup(std::string root, pid_t pid);

  /// Nothing while there are other programs in the process's cgroup, or below it: their figures are in it,
  /// too. Nor in the first sample after it came to another cgroup, whose counters stand elsewhere. Follows
  /// the process from cgroup to cgroup; allocates only then.
  std::optional<CgroupMemory> sample();

 private:
  struct Files {
    explicit Files(const std::string& directory);
    PseudoFile processes, tree, stat, pressure, swap;
    bool threaded = false;  ///< what is below it are threads of processes that are in it
  };

  bool follow(ReadBuffer& buffer);
  void enter(std::string_view path);
  bool alone(ReadBuffer& buffer);
  bool has_only_kernel_threads_beside(std::string_view processes) const;

  const std::string root_;
  const std::string pid_;
  std::string
      judged_;  ///< cgroup.procs as it was when there were kernel threads beside the process, and nobody else
  PseudoFile membership_;
  std::string path_;  ///< by which files_ were opened; empty: by none
  std::optional<Files> files_;
};

}  // namespace balloon::daemon
