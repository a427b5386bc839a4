// SPDX-License-Identifier: Apache-2.0
// The daemon's gRPC server: guest link, scheduler, health and reflection, all on one Unix socket.
#pragma once

#include <grpcpp/server.h>

#include <memory>

#include "balloond/api/acceptor.h"
#include "balloond/api/call_counters.h"
#include "balloond/api/capacity_service.h"
#include "balloond/api/health.h"
#include "balloond/api/scheduler_service.h"
#include "balloond/guests/vmm_link.h"

namespace balloon::daemon {

class Server {
 public:
  /// `serving` says whether the daemon does its work; `calls` counts what is called.
  Server(Entrance entrance, const Clock& clock, Registry& guests, StateStore& states,
         ReservationBook& reservations, PinKeeper& pins, ControlSwitch& control, const NeedHistory& needs,
         CallCounters& calls, std::function<bool()> serving);
  ~Server();

  Result<void> start();
  /// Ends all calls, streams included: within a second or so, whatever peers do.
  void stop();
  HealthService& health() { return health_; }
  const BackendHealth& vmm_link_health() const { return vmm_link_.health(); }

 private:
  CallCounters& calls_;
  Acceptor acceptor_;
  VmmLink vmm_link_;
  SchedulerService scheduler_;
  CapacityService capacity_;
  HealthService health_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace balloon::daemon
