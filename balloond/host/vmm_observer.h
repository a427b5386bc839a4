// What the host sees of one guest, whatever the guest says: its VMM's process, and that process's cgroup.
#pragma once

#include <optional>
#include <string>

#include "balloond/host/own_cgroup.h"
#include "balloond/host/process.h"

namespace balloon::daemon {

class VmmObserver {
 public:
  /// A pid of 0 is unknown: nothing is seen of it.
  VmmObserver(const std::string& root, pid_t pid) : process_(root, pid), cgroup_(root, pid) {}

  bool alive() const { return process_.sample().has_value(); }
  /// Of a guest of `memory`; nothing once the process has ended. Counters that begin anew are unknown once.
  std::optional<policy::GuestOnHost> look(policy::Bytes memory);

 private:
  enum class Source : std::uint8_t { none, cgroup, process };
  std::optional<policy::Bytes> read_back(const ProcessMemory& memory);

  Process process_;
  OwnCgroup cgroup_;
  Source source_ = Source::none;  ///< of the counters, in the sample before
  std::optional<std::uint64_t> faults_;
  policy::Bytes read_back_ = 0;
  bool had_swap_ = false;
};

}  // namespace balloon::daemon
