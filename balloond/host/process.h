// SPDX-License-Identifier: Apache-2.0
// One process of the host, held by an open file of its /proc directory, so that a reused number cannot be
// taken for it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "balloond/host/pseudo_file.h"

namespace balloon::daemon {

struct ProcessMemory {
  policy::Bytes mapped{};    ///< VmSize
  policy::Bytes resident{};  ///< VmRSS and HugetlbPages, without the program's own files
  policy::Bytes swapped{};   ///< VmSwap: of private memory, not of a memfd
  policy::Bytes huge{};      ///< HugetlbPages: of the host's pool, given back to that at most
  policy::Bytes locked{};    ///< VmLck: mlock(), and what VFIO accounts there
  policy::Bytes pinned{};    ///< VmPin: held in place for devices (iommufd, vDPA, registered buffers)
};

/// When a process started, in clock ticks since boot: tells it from a later one of the same number.
std::optional<std::uint64_t> start_time(const std::string& root, pid_t pid);

/// Whether it is one of the kernel's own: it has no memory of its own. False of one that is gone.
bool is_kernel_thread(const std::string& root, pid_t pid);

class Process {
 public:
  /// A process that is gone, or a pid of 0 (unknown), is never alive.
  Process(const std::string& root, pid_t pid);
  /// What it uses now; nothing once it has ended. Reads of a dead process's status fail with ESRCH, for good.
  std::optional<ProcessMemory> sample() const;
  /// Of all its threads since it started, less those that the kernel takes for it in the background (KVM's
  /// asynchronous page faults).
  std::optional<std::uint64_t> major_faults() const;
  /// What its threads had fetched from storage since it started (proc_pid_io(5), read_bytes), its own memory
  /// that comes back from swap as well; nothing where that may not be read. Reads of the host's page cache,
  /// and those that the kernel does for it (io_uring's workers, vhost), are not in it.
  std::optional<policy::Bytes> bytes_read() const;

 private:
  std::string io_;
  PseudoFile status_;
  PseudoFile stat_;
};

}  // namespace balloon::daemon
