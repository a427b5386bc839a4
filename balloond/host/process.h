// One process of the host, held by an open file of its /proc directory, so that a reused number cannot be
// taken for it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "balloond/host/pseudo_file.h"

namespace balloon::daemon {

struct ProcessMemory {
  policy::Bytes resident = 0;  ///< VmRSS, and HugetlbPages
  policy::Bytes swapped = 0;   ///< VmSwap
};

class Process {
 public:
  /// A process that is gone, or a pid of 0 (unknown), is never alive.
  Process(const std::string& root, pid_t pid);
  /// What it uses now; nothing once it has ended. Reads of a dead process's status fail with ESRCH, for good.
  std::optional<ProcessMemory> sample() const;

 private:
  PseudoFile status_;
};

}  // namespace balloon::daemon
