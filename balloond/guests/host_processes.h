// SPDX-License-Identifier: Apache-2.0
// The processes that run guests, as the host sees them: each is looked at once, however many guests it runs.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "balloond/clock.h"
#include "balloond/guests/credit.h"
#include "balloond/host/vmm_observer.h"
#include "base/mutex.h"
#include "policy/types.h"

namespace balloon::daemon {

class HostProcesses {
 public:
  /// What guests claim of a process, and what a look at it found.
  struct Sight {
    Bytes memory{};  ///< of its guests together
    int guests = 0;
    bool reads_are_counted = true;     ///< by the hypervisor, of each of them
    std::optional<Bytes> disk_read{};  ///< where they are not, and there is one guest only: by the process
    std::optional<policy::GuestOnHost> on_host{};  ///< nothing once the process has ended
    Credit credit{};

    /// The part of it that is a guest's, whose memory is so large. A process's memory is there once.
    policy::GuestOnHost part_of(Bytes guest_memory) const;
  };
  using Sights = std::map<std::shared_ptr<VmmObserver>, Sight>;

  /// `root` goes before /proc: empty but for tests.
  explicit HostProcesses(std::string root) : root_(std::move(root)) {}

  /// A process's own, while it lives; a pid of 0 is unknown. Any thread.
  std::shared_ptr<VmmObserver> of(pid_t pid);
  /// Looks at each, and judges how much of what is claimed of it counts on a host of `host_total`. Reads
  /// /proc, whose files may take their time. One thread's.
  void look(Sights& sights, Bytes host_total, Time now);

 private:
  void look_at_rooms(const Sights& sights, Time now);

  const std::string root_;
  Mutex mutex_;
  std::map<pid_t, std::weak_ptr<VmmObserver>> known_ GUARDED_BY(mutex_);
  /// Whose room was looked at last, and when.
  std::shared_ptr<VmmObserver> room_looked_at_;
  std::optional<Time> rooms_looked_at_;
};

}  // namespace balloon::daemon
