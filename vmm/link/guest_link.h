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
  Bytes memory = 0;
  std::uint32_t vcpus = 1;
  bool merging = false;  ///< KSM may share the guest's memory, as it is started
};

class GuestLink {
 public:
  /// Starts dialling. Fails when the socket path cannot be one (empty, longer than a socket address holds).
  static Result<std::unique_ptr<GuestLink>> start(GuestLinkConfig config);
  ~GuestLink();  ///< hangs up and joins its threads
  GuestLink(const GuestLink&) = delete;
  GuestLink& operator=(const GuestLink&) = delete;

  /// Lets KSM share the guest's memory, or ends that.
  using SetMerging = std::function<Result<void>(bool)>;
  /// What the guest's disks have served since it booted. Called while the machine is attached; waits for
  /// nobody.
  using DiskRead = std::function<Bytes()>;
  /// Attaches the balloon, memory and disks of a (re)booted machine. Without `disk_read` nothing is said of
  /// disks.
  void attach(BalloonControl& balloon, SetMerging set_merging, DiskRead disk_read = {});
  /// Before that machine is destroyed: when this returns no call into it is under way and none will follow.
  void detach();
  /// The guest's virtual CPUs were stopped, or run again.
  void set_paused(bool paused);

 private:
  class Impl;
  explicit GuestLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace balloon::vmm
