// SPDX-License-Identifier: Apache-2.0
// The backend for QEMU: finds QMP sockets, and runs a monitor for each in one thread of its own, so that a
// QEMU that is slow, silent or hostile delays neither the daemon nor its neighbours.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "balloond/config/qmp_config.h"
#include "balloond/guests/backend.h"
#include "balloond/guests/qmp/discovery.h"
#include "balloond/guests/qmp/monitor.h"
#include "base/mutex.h"

namespace balloon::daemon::qmp {

class Backend {
 public:
  Backend(const Clock& clock, GuestEvents& guests);
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  /// Starts to manage the guests of these sockets, from now on these and no others. `stats_interval` is what
  /// guests to come are asked for. Starts the thread when there is something to do; any thread but its own.
  Result<void> manage(std::vector<QmpSockets> sources, std::chrono::nanoseconds stats_interval);
  /// Lets all guests go as they are. Balloons stay.
  void stop();
  const BackendHealth& health() const { return health_; }

 private:
  struct Order {
    std::vector<QmpSockets> sources;
    std::chrono::nanoseconds stats_interval{};
  };
  /// How a socket counts in health_.
  enum class Standing : std::uint8_t { untried, connected, failing };
  struct Managed {
    std::unique_ptr<Monitor> monitor;
    int polled_fd = -1;
    bool polls_write = false;
    Time due{};
    Standing standing = Standing::untried;
  };
  Result<void> start();
  void run();
  void take_order();
  /// Compares what is managed with what is there.
  void look();
  void after(Monitor& monitor);
  void count(Managed& managed, Standing standing);
  bool is_managed(pid_t pid, const std::string& except) const;
  void wake() const;
  int wait_for() const;

  const Clock& clock_;
  BackendHealth health_;
  Surroundings surroundings_;
  UniqueFd epoll_;
  UniqueFd wakeup_;
  std::thread thread_;

  Mutex mutex_;
  std::optional<Order> order_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;

  // The thread's own.
  std::vector<QmpSockets> sources_;
  DirectoryWatch directories_;
  int polled_directories_ = -1;
  std::map<std::string, Managed> sockets_;         ///< by path
  std::map<int, std::string> paths_;               ///< of open connections, by descriptor
  std::set<std::pair<Time, std::string>> agenda_;  ///< when which socket is due
  Time looked_at_{};
};

}  // namespace balloon::daemon::qmp
