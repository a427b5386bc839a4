// SPDX-License-Identifier: Apache-2.0
// The backend for libvirt: one thread for all libvirtds, which calls none of them itself, so that one that is
// slow or dead delays neither the daemon nor its neighbours.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "balloond/config/libvirt_config.h"
#include "balloond/guests/backend.h"
#include "balloond/guests/backend_counters.h"
#include "base/error.h"

namespace balloon::daemon::libvirt {

class Backend {
 public:
  Backend(const Clock& clock, GuestEvents& guests);
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  /// Starts to manage the guests of these, from now on these and no others. Fails when there are some and
  /// libvirt's client library is missing, or this was built without it. Any thread but its own.
  Result<void> manage(std::vector<LibvirtHost> hosts, std::chrono::nanoseconds stats_interval);
  /// Lets all guests go as they are. Balloons stay.
  void stop();
  const BackendHealth& health() const { return health_; }

 private:
  class Runner;

  const Clock& clock_;
  GuestEvents& guests_;
  BackendHealth health_;
  std::unique_ptr<Runner> runner_;  ///< once there is something to do
};

}  // namespace balloon::daemon::libvirt
