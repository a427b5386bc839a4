// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/backend.h"

#include <utility>

namespace balloon::daemon::libvirt {

Backend::Backend(const Clock& clock, GuestEvents& guests, std::string module)
    : clock_(clock), guests_(guests), module_(std::move(module)) {}

Result<void> Backend::manage(std::vector<LibvirtHost> hosts, std::chrono::nanoseconds stats_interval) {
  health_.configured = !hosts.empty();
  if (!runner_) {
    if (hosts.empty()) return {};
    const auto module = load_module(module_);
    if (!module) return std::unexpected(module.error());
    auto runner = (*module)->start(clock_, guests_, health_);
    if (!runner) return std::unexpected(runner.error());
    runner_ = std::move(*runner);
  }
  runner_->manage(std::move(hosts), stats_interval);
  return {};
}

void Backend::stop() { runner_.reset(); }

}  // namespace balloon::daemon::libvirt
