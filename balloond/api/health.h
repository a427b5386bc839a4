// SPDX-License-Identifier: Apache-2.0
// grpc.health.v1: our own implementation, because gRPC's built-in one is not listed by reflection.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace balloon::daemon {

class HealthWatch;

class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  /// `serving` says whether the daemon does its work; it is asked at each check and at each refresh().
  explicit HealthService(std::function<bool()> serving);
  ~HealthService() override;

  /// Tells watchers when the answer has changed. Call it about once a second.
  void refresh();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context, const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  using Status = grpc::health::v1::HealthCheckResponse;
  Status::ServingStatus status() const;

  std::function<bool()> serving_;
  Mutex mutex_;
  std::vector<std::weak_ptr<HealthWatch>> watches_ GUARDED_BY(mutex_);
};

}  // namespace balloon::daemon
