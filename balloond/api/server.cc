// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace balloon::daemon {
namespace {

/// The largest message that makes sense is a registration with 64 labels; bounds what a peer can make us
/// hold.
constexpr int kMessageMax = 64 * 1024;
/// Calls that end by themselves get this long at shutdown; streams are cancelled then.
constexpr auto kShutdownGrace = std::chrono::milliseconds(200);
/// What is still there after this long waits for a peer that does not read: its connection is ended. gRPC
/// closes none that it has something to write to (chttp2_transport.cc, close_transport_locked).
constexpr auto kConnectionGrace = std::chrono::milliseconds(700);

/// Ends connections while the server shuts down, until it has.
class Ender {
 public:
  explicit Ender(Acceptor& acceptor) : thread_([this, &acceptor] { run(acceptor); }) {}
  ~Ender() {
    {
      const MutexLock lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Ender(const Ender&) = delete;
  Ender& operator=(const Ender&) = delete;

 private:
  void run(Acceptor& acceptor) {
    UniqueLock lock(mutex_);
    while (!changed_.wait_for(lock.standard(), kConnectionGrace, [this]() REQUIRES(mutex_) { return done_; }))
      acceptor.end_connections();
  }

  Mutex mutex_;
  std::condition_variable changed_;
  bool done_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

constexpr std::string_view kGuestLink = "/balloon.v1.GuestLinkService/Connect";

/// Sees each call of each service begin. It keeps out of guest links, whose messages are too many to be
/// looked at each, and which say themselves how they end.
class CallNoter final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  CallNoter(Acceptor& acceptor, CallCounters& calls) : acceptor_(acceptor), calls_(calls) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* call) override {
    acceptor_.called(call->server_context()->peer());
    const std::string_view path = call->method();
    CallCounters::Method* const method = calls_.find(path);
    if (method == nullptr) return nullptr;
    ++method->started;
    return path == kGuestLink ? nullptr : observe(*method);
  }

 private:
  Acceptor& acceptor_;
  CallCounters& calls_;
};

}  // namespace

Server::Server(Entrance entrance, const Clock& clock, Registry& guests, StateStore& states,
               ReservationBook& reservations, PinKeeper& pins, ControlSwitch& control,
               const NeedHistory& needs, CallCounters& calls, std::function<bool()> serving)
    : calls_(calls),
      acceptor_(std::move(entrance), clock),
      vmm_link_(
          guests, acceptor_, [&guests] { return guests.stats_interval(); },
          [link = calls.find(kGuestLink)](grpc::StatusCode code) { link->end(code); }),
      scheduler_(guests, states, reservations, pins, control, needs, acceptor_),
      capacity_(states, acceptor_),
      health_(std::move(serving)) {}

Server::~Server() { stop(); }

Result<void> Server::start() {
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMessageMax);
  // Its pings find out how much a long line holds: here they would be a third message for each two.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<CallNoter>(acceptor_, calls_));
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  builder.RegisterService(&vmm_link_);
  builder.RegisterService(&scheduler_);
  builder.RegisterService(&capacity_);
  builder.RegisterService(&health_);
  server_ = builder.BuildAndStart();
  if (!server_) return fail("cannot start the gRPC server");
  return acceptor_.start(*server_);
}

void Server::stop() {
  if (!server_) return;
  acceptor_.stop();
  const Ender ender(acceptor_);
  server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  server_->Wait();
  server_.reset();
}

}  // namespace balloon::daemon
