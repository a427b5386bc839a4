// SPDX-License-Identifier: Apache-2.0
// The backend for libvirt, as the daemon has it: what does the work is loaded when the first libvirtd is
// configured (module.h).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "balloond/guests/libvirt/module.h"

namespace balloon::daemon::libvirt {

class Backend {
 public:
  Backend(const Clock& clock, GuestEvents& guests, std::string module = module_path());

  /// Starts to manage the guests of these, from now on these and no others. Fails when there are some and the
  /// module cannot be used. Any thread but the backend's own.
  Result<void> manage(std::vector<LibvirtHost> hosts, std::chrono::nanoseconds stats_interval);
  /// Lets all guests go as they are. Balloons stay.
  void stop();
  const BackendHealth& health() const { return health_; }

 private:
  const Clock& clock_;
  GuestEvents& guests_;
  const std::string module_;
  BackendHealth health_;
  std::unique_ptr<Runner> runner_;  ///< once there is something to do; last, as it uses all of these
};

}  // namespace balloon::daemon::libvirt
