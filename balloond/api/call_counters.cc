// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/call_counters.h"

#include <google/protobuf/descriptor.h>

#include <chrono>

namespace balloon::daemon {
namespace {

constexpr std::array<const char*, 5> kServices{"balloon.v1.SchedulerService", "balloon.v1.CapacityService",
                                               "balloon.v1.GuestLinkService", "grpc.health.v1.Health",
                                               "grpc.reflection.v1alpha.ServerReflection"};

std::string_view type_of(const google::protobuf::MethodDescriptor& method) {
  if (!method.server_streaming()) return method.client_streaming() ? "client_stream" : "unary";
  return method.client_streaming() ? "bidi_stream" : "server_stream";
}

class CallObserver final : public grpc::experimental::Interceptor {
 public:
  explicit CallObserver(CallCounters::Method& method)
      : method_(method), begun_(std::chrono::steady_clock::now()) {}
  ~CallObserver() override {
    if (!ended_) end(grpc::StatusCode::CANCELLED);  // its peer went before there was a status to send
  }
  CallObserver(const CallObserver&) = delete;
  CallObserver& operator=(const CallObserver&) = delete;

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_STATUS))
      end(methods->GetSendStatus().error_code());
    methods->Proceed();
  }

 private:
  void end(grpc::StatusCode code) {
    ended_ = true;
    method_.end(code);
    if (!method_.is_unary()) return;
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun_;
    method_.seconds.observe(taken.count());
  }

  CallCounters::Method& method_;
  const std::chrono::steady_clock::time_point begun_;
  bool ended_ = false;
};

}  // namespace

std::string_view name_of(grpc::StatusCode code) {
  static constexpr std::array<std::string_view, kStatusCodes> kNames{
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  return kNames.at(static_cast<std::size_t>(code));
}

CallCounters::CallCounters() {
  const auto& pool = *google::protobuf::DescriptorPool::generated_pool();
  for (const char* const name : kServices) {
    const auto* const service = pool.FindServiceByName(name);
    for (int i = 0; service != nullptr && i < service->method_count(); ++i) {
      const auto& descriptor = *service->method(i);
      Method& method = methods_[std::string("/") + name + "/" + descriptor.name()];
      method.service = name;
      method.name = descriptor.name();
      method.type = type_of(descriptor);
    }
  }
}

CallCounters::Method* CallCounters::find(std::string_view path) {
  const auto known = methods_.find(path);
  return known == methods_.end() ? nullptr : &known->second;
}

grpc::experimental::Interceptor* observe(CallCounters::Method& method) { return new CallObserver(method); }

}  // namespace balloon::daemon
