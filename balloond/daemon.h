// SPDX-License-Identifier: Apache-2.0
// The daemon put together: its parts, in the order in which they start and stop.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "balloond/api/server.h"
#include "balloond/config/config.h"
#include "balloond/control/loop.h"
#include "balloond/control/pin_keeper.h"
#include "balloond/control/reservation_keeper.h"
#include "balloond/guests/libvirt/backend.h"
#include "balloond/guests/qmp/backend.h"
#include "balloond/journal/journal.h"
#include "balloond/metrics/collector.h"
#include "balloond/metrics/exposer.h"
#include "balloond/needs/need_keeper.h"

namespace balloon::daemon {

class Daemon {
 public:
  /// Starts everything that `config`, loaded from `config_path`, says. `dry_run`: also after a reload.
  static Result<std::unique_ptr<Daemon>> start(std::string config_path, Config config, bool dry_run = false);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  /// Loads the configuration again: taken whole, or refused and logged while the old one stays.
  void reload();
  /// What is to be done about once a second.
  void refresh();

  /// How often it has decided, and for how long it may not before something is wrong with it.
  std::uint64_t ticks() const { return loop_.ticks(); }
  std::chrono::nanoseconds stall_after() const { return loop_.stall_after(); }
  const std::string& socket_path() const { return config_.daemon.socket_path; }

 private:
  Daemon(std::string config_path, Config config, bool dry_run, Entrance entrance);
  Result<void> start_parts();
  Result<void> keep_reservations();

  const std::string config_path_;
  const bool dry_run_;  ///< by the command line, whatever the file says
  Config config_;
  SystemClock clock_;
  Registry guests_;
  HostSampler host_;
  StateStore states_;
  std::unique_ptr<Journal> journal_;
  ReservationBook reservations_;
  std::unique_ptr<ReservationKeeper> keeper_;
  PinKeeper pins_{guests_};
  KsmControl ksm_;
  ControlSwitch control_{clock_};
  Ticker ticker_;
  NeedHistory needs_;
  NeedKeeper need_keeper_;
  CallCounters calls_;
  ControlLoop loop_;
  qmp::Backend qmp_;
  libvirt::Backend libvirt_;
  Server server_;
  Collector collector_;
  std::optional<MetricsServer> metrics_;
};

/// Whether what it configures is installed.
Result<void> check_backends(const DaemonConfig& config);

/// MemTotal, which bounds what a policy may reserve.
Result<Bytes> host_memory();

}  // namespace balloon::daemon
