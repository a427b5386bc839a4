// SPDX-License-Identifier: Apache-2.0
// What the host sees of a VMM's guests, whatever they say: its process, and that process's cgroup.
#pragma once

#include <optional>
#include <string>

#include "balloond/host/own_cgroup.h"
#include "balloond/host/process.h"
#include "base/mutex.h"

namespace balloon::daemon {

class VmmObserver {
 public:
  /// A pid of 0 is unknown: nothing is seen of it.
  VmmObserver(const std::string& root, pid_t pid)
      : root_(root), pid_(pid), process_(root, pid), cgroup_(root, pid) {}

  /// All from any thread.
  bool alive() const { return process_.sample().has_value(); }
  /// Of guests that have `memory` together; nothing once the process has ended. Counters that begin anew are
  /// unknown once.
  std::optional<policy::GuestOnHost> look(policy::Bytes memory);
  /// What the process has read from disks since the first call, less what came back from swap, by the newest
  /// look(): stands in for a hypervisor that does not count what its guest's disks read.
  std::optional<policy::Bytes> disk_read();
  /// What of its memory may be guests', by the last look_at_room(); nothing when that is unknown.
  std::optional<policy::Bytes> room() const;
  /// Reads the process's mappings, which takes long, where its size has changed; now and then where it has
  /// not.
  void look_at_room();

 private:
  enum class Source : std::uint8_t { none, cgroup, process };
  std::optional<policy::Bytes> read_back(const ProcessMemory& memory) REQUIRES(mutex_);

  const std::string root_;
  const pid_t pid_;
  mutable Mutex mutex_;  ///< no two threads look at once
  Process process_;      ///< is only read, by any thread
  OwnCgroup cgroup_ GUARDED_BY(mutex_);
  Source source_ GUARDED_BY(mutex_) = Source::none;  ///< of the counters, in the sample before
  std::optional<std::uint64_t> faults_ GUARDED_BY(mutex_);
  policy::Bytes read_back_ GUARDED_BY(mutex_){};
  std::optional<policy::Bytes> swap_in_ GUARDED_BY(mutex_);  ///< by the newest look()
  // By the process, when disk_read() was called last.
  std::optional<policy::Bytes> read_ GUARDED_BY(mutex_);
  std::optional<policy::Bytes> read_swap_in_ GUARDED_BY(mutex_);
  policy::Bytes disk_read_ GUARDED_BY(mutex_){};
  bool had_swap_ GUARDED_BY(mutex_) = false;
  policy::Bytes mapped_ GUARDED_BY(mutex_){};  ///< by the last look()
  std::optional<policy::Bytes> room_ GUARDED_BY(mutex_);
  std::optional<policy::Bytes> room_mapped_ GUARDED_BY(mutex_);  ///< when that was seen
  int same_looks_ GUARDED_BY(mutex_) = 0;
};

}  // namespace balloon::daemon
