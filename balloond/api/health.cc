#include "balloond/api/health.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

namespace balloon::daemon {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

/// "" is the server as a whole (grpc/health/v1/health.proto).
constexpr std::array<std::string_view, 3> kServices{"", "balloon.v1.SchedulerService",
                                                    "balloon.v1.GuestLinkService"};

bool is_known(const std::string& service) { return std::ranges::find(kServices, service) != kServices.end(); }

}  // namespace

/// One stream of Watch. It owns itself until OnDone.
class HealthWatch final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  void start(std::shared_ptr<HealthWatch> self, HealthCheckResponse::ServingStatus status) {
    self_ = std::move(self);
    update(status);
  }

  void update(HealthCheckResponse::ServingStatus status) {
    const std::lock_guard lock(mutex_);
    wanted_ = status;
    send_next();
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    cancelled_ |= !ok;
    send_next();
  }

  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    send_next();
  }

  void OnDone() override {
    // Whoever called Finish has let go of the lock before this object may go.
    {
      const std::lock_guard lock(mutex_);
    }
    self_.reset();
  }

 private:
  void send_next() {
    if (writing_ || finished_) return;
    if (cancelled_) {
      finished_ = true;
      return Finish(grpc::Status::CANCELLED);
    }
    if (sent_ == wanted_) return;
    sent_ = wanted_;
    response_.set_status(wanted_);
    writing_ = true;
    StartWrite(&response_);
  }

  std::shared_ptr<HealthWatch> self_;
  std::mutex mutex_;  ///< guards all below
  bool writing_ = false;
  bool cancelled_ = false;
  bool finished_ = false;
  HealthCheckResponse::ServingStatus wanted_ = HealthCheckResponse::UNKNOWN;
  std::optional<HealthCheckResponse::ServingStatus> sent_;
  HealthCheckResponse response_;
};

HealthService::HealthService(std::function<bool()> serving) : serving_(std::move(serving)) {}

HealthService::~HealthService() = default;

void HealthService::refresh() {
  const auto now = status();
  const std::lock_guard lock(mutex_);
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
  const auto watch = std::make_shared<HealthWatch>();
  if (!is_known(request->service())) {
    watch->start(watch, HealthCheckResponse::SERVICE_UNKNOWN);
    return watch.get();
  }
  {
    const std::lock_guard lock(mutex_);
    watches_.push_back(watch);
  }
  watch->start(watch, status());
  return watch.get();
}

HealthCheckResponse::ServingStatus HealthService::status() const {
  return serving_() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

}  // namespace balloon::daemon
