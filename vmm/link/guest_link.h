// SPDX-License-Identifier: Apache-2.0
// The guest link, VMM side: dials the daemon, registers the guest, reports its balloon, takes targets. Losing
// the daemon changes no balloon: the link dials again, with backoff, for as long as the VMM lives.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "vmm/devices/balloon/balloon_control.h"

namespace balloon::vmm {

struct GuestLinkConfig {
  std::string socket;  ///< path of the daemon's Unix socket; it need not exist yet
  std::string name;
  std::map<std::string, std::string> labels;
  Bytes memory{};
  std::uint32_t vcpus = 1;
};

/// The guest as the link sees it: through reboots it is the same. All is thread-safe, and outlives the link.
struct LinkedGuest {
  BalloonControl& balloon;
  std::function<bool()> merging;  ///< whether KSM may share its memory
  std::function<Result<void>(bool)> set_merging;
  /// What its disks have served since it booted; empty: nothing is said of disks. Waits for nobody.
  std::function<Bytes()> disk_read;
};

class GuestLink {
 public:
  /// Starts dialling. Fails when the socket path cannot be one (empty, longer than a socket address holds).
  static Result<std::unique_ptr<GuestLink>> start(GuestLinkConfig config, LinkedGuest guest);
  ~GuestLink();  ///< hangs up and joins its threads
  GuestLink(const GuestLink&) = delete;
  GuestLink& operator=(const GuestLink&) = delete;

  /// The guest's virtual CPUs were stopped, or run again.
  void set_paused(bool paused);

 private:
  class Impl;
  explicit GuestLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace balloon::vmm
