// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/health.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <string_view>

#include "balloond/api/newest_stream.h"

namespace balloon::daemon {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

/// "" is the server as a whole (grpc/health/v1/health.proto).
constexpr std::array<std::string_view, 3> kServices{"", "balloon.v1.SchedulerService",
                                                    "balloon.v1.GuestLinkService"};

bool is_known(const std::string& service) { return std::ranges::find(kServices, service) != kServices.end(); }

}  // namespace

/// One stream of Watch.
class HealthWatch final : public NewestStream<HealthCheckResponse> {
 public:
  explicit HealthWatch(HealthCheckResponse::ServingStatus status) : wanted_(status) {}

  void update(HealthCheckResponse::ServingStatus status) {
    wanted_ = status;
    changed();
  }

 protected:
  bool next(HealthCheckResponse& response) override {
    const HealthCheckResponse::ServingStatus status = wanted_;
    if (sent_ == status) return false;
    sent_ = status;
    response.set_status(status);
    return true;
  }

 private:
  std::atomic<HealthCheckResponse::ServingStatus> wanted_;
  std::optional<HealthCheckResponse::ServingStatus> sent_;
};

HealthService::HealthService(std::function<bool()> serving) : serving_(std::move(serving)) {}

HealthService::~HealthService() = default;

void HealthService::refresh() {
  const auto now = status();
  const MutexLock lock(mutex_);
  std::erase_if(watches_, [](const std::weak_ptr<HealthWatch>& watch) { return watch.expired(); });
  for (const auto& watch : watches_) {
    if (const auto alive = watch.lock()) alive->update(now);
  }
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context,
                                               const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  if (is_known(request->service())) {
    response->set_status(status());
    reactor->Finish(grpc::Status::OK);
  } else {
    reactor->Finish({grpc::StatusCode::NOT_FOUND, "this server has no service of that name"});
  }
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(grpc::CallbackServerContext*,
                                                                    const HealthCheckRequest* request) {
  const bool known = is_known(request->service());
  const auto watch = std::make_shared<HealthWatch>(known ? status() : HealthCheckResponse::SERVICE_UNKNOWN);
  if (known) {
    const MutexLock lock(mutex_);
    watches_.push_back(watch);
  }
  watch->start(watch);
  return watch.get();
}

HealthCheckResponse::ServingStatus HealthService::status() const {
  return serving_() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

}  // namespace balloon::daemon
