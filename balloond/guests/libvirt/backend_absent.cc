// SPDX-License-Identifier: Apache-2.0
// Stands in for the backend where balloond is built without libvirt's headers (cmake -D BALLOON_LIBVIRT=OFF).
#include "balloond/guests/libvirt/backend.h"

namespace balloon::daemon::libvirt {

class Backend::Runner {};

Backend::Backend(const Clock& clock, GuestEvents& guests) : clock_(clock), guests_(guests) {}
Backend::~Backend() = default;

Result<void> Backend::manage(std::vector<LibvirtHost> hosts, std::chrono::nanoseconds /*stats_interval*/) {
  if (hosts.empty()) return {};
  return fail(
      "backends.libvirt is configured, and this balloond was built without libvirt (BALLOON_LIBVIRT=OFF)");
}

void Backend::stop() {}

}  // namespace balloon::daemon::libvirt
