// SPDX-License-Identifier: Apache-2.0
// How a machine's life ends: the first reason wins.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

enum class Ending {
  power_off,  ///< the guest switched itself off
  reboot,     ///< the guest asked for a reset, or triple-faulted
  failed,     ///< KVM cannot run it any further
  quit,       ///< the process is to end
};

struct Outcome {
  Ending ending;
  std::string why;
  bool by_guest = true;
};

/// Set once, from any vCPU thread; waited for through its file descriptor.
class OutcomeLatch {
 public:
  static Result<std::unique_ptr<OutcomeLatch>> create() {
    UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event) return fail_errno("making an eventfd", errno);
    return std::unique_ptr<OutcomeLatch>(new OutcomeLatch(std::move(event)));
  }

  void set(Ending ending, std::string why, bool by_guest = true) {
    const MutexLock lock(mutex_);
    if (outcome_) return;
    outcome_ = Outcome{ending, std::move(why), by_guest};
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof(one));
  }
  std::optional<Outcome> get() const {
    const MutexLock lock(mutex_);
    return outcome_;
  }
  /// Readable once there is an outcome.
  int fd() const { return event_.get(); }

 private:
  explicit OutcomeLatch(UniqueFd event) : event_(std::move(event)) {}
  mutable Mutex mutex_;
  std::optional<Outcome> outcome_ GUARDED_BY(mutex_);
  UniqueFd event_;
};

}  // namespace balloon::vmm
