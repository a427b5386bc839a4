// SPDX-License-Identifier: Apache-2.0
// What systemd is told of this daemon (sd_notify(3)): that it serves, reloads and stops, and that it lives.
// Where nobody asks for it
// ($NOTIFY_SOCKET is not set) nothing is done.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace balloon::daemon {

class ServiceManager {
 public:
  /// `tell` sends lines of NAME=VALUE. `watchdog` is the time within which it wants a sign of life; 0: none.
  using Tell = std::function<void(const std::string& lines)>;
  ServiceManager(Tell tell, std::chrono::microseconds watchdog);
  /// As the environment says.
  static ServiceManager of_environment();

  /// It serves, and may be silent for `silence` before something is wrong with it: where the watchdog's time
  /// is shorter, it is given more.
  void ready(const std::string& status, std::chrono::nanoseconds silence);
  /// Until ready() is called again.
  void reloading();
  void stopping();

  /// Call about once a second. A sign of life only when `ticks`, those of the control loop, have become more:
  /// a loop that stands still is found out, however well everything else goes on.
  void look(std::uint64_t ticks);

 private:
  Tell tell_;
  std::chrono::microseconds given_;
  std::chrono::microseconds watchdog_;  ///< in force
  std::uint64_t ticks_ = 0;
};

}  // namespace balloon::daemon
