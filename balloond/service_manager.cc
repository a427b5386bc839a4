// SPDX-License-Identifier: Apache-2.0
#include "balloond/service_manager.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <utility>

namespace balloon::daemon {

using std::chrono::microseconds;

ServiceManager::ServiceManager(Tell tell, microseconds watchdog)
    : tell_(std::move(tell)), given_(watchdog), watchdog_(watchdog) {}

ServiceManager ServiceManager::of_environment() {
  std::uint64_t watchdog = 0;
  if (::sd_watchdog_enabled(0, &watchdog) <= 0) watchdog = 0;
  return {[](const std::string& lines) { ::sd_notify(0, lines.c_str()); }, microseconds(watchdog)};
}

void ServiceManager::ready(const std::string& status, std::chrono::nanoseconds silence) {
  std::string lines = fmt::format("READY=1\nSTATUS={}", status);
  const microseconds wanted = std::max(given_, std::chrono::ceil<microseconds>(silence));
  if (given_ > microseconds(0) && wanted != watchdog_) {
    watchdog_ = wanted;
    lines += fmt::format("\nWATCHDOG_USEC={}", wanted.count());
  }
  tell_(lines);
}

void ServiceManager::reloading() {
  const auto now =
      std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now().time_since_epoch());
  tell_(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now.count()));
}

void ServiceManager::stopping() { tell_("STOPPING=1"); }

void ServiceManager::look(std::uint64_t ticks) {
  if (given_ == microseconds(0) || ticks == ticks_) return;
  ticks_ = ticks;
  tell_("WATCHDOG=1");
}

}  // namespace balloon::daemon
