// SPDX-License-Identifier: Apache-2.0
// balloon.v1.CapacityService: answers from the newest published state.
#pragma once

#include "balloon/v1/capacity.grpc.pb.h"
#include "balloond/api/acceptor.h"
#include "balloond/control/state.h"
#include "balloond/host/identity.h"

namespace balloon::daemon {

class CapacityService final : public v1::CapacityService::CallbackService {
 public:
  /// `peers` knows what each caller may.
  CapacityService(const StateStore& states, const Acceptor& peers) : states_(states), peers_(peers) {}

  grpc::ServerUnaryReactor* GetCapacity(grpc::CallbackServerContext* context,
                                        const v1::GetCapacityRequest* request,
                                        v1::GetCapacityResponse* response) override;
  grpc::ServerUnaryReactor* CheckFit(grpc::CallbackServerContext* context, const v1::CheckFitRequest* request,
                                     v1::CheckFitResponse* response) override;

 private:
  const StateStore& states_;
  const Acceptor& peers_;
  const HostIdentity host_ = HostIdentity::read();
};

}  // namespace balloon::daemon
