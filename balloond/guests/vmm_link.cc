// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/vmm_link.h"

#include <array>
#include <optional>
#include <utility>

#include "balloond/guests/wire.h"
#include "base/mutex.h"

namespace balloon::daemon {
namespace {

void set_duration(google::protobuf::Duration& out, std::chrono::nanoseconds duration) {
  out.set_seconds(duration.count() / 1'000'000'000);
  out.set_nanos(static_cast<std::int32_t>(duration.count() % 1'000'000'000));
}

/// A stream that ends as it begins.
class Refused final : public grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse> {
 public:
  explicit Refused(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

/// One guest's stream. It owns itself until OnDone; the registry shares it as the guest's channel. What waits
/// to be sent is at most one message of each kind: a newer target replaces one that is not on its way yet.
class LinkStream final : public grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>,
                         public GuestChannel {
 public:
  LinkStream(GuestEvents& guests, LinkPeers& peers, BackendHealth& health, const VmmLink::OnEnd& on_end,
             std::string address, std::chrono::nanoseconds stats_interval)
      : guests_(guests),
        peers_(peers),
        health_(health),
        on_end_(on_end),
        address_(std::move(address)),
        stats_interval_(stats_interval) {}

  void start(std::shared_ptr<LinkStream> self) {
    self_ = std::move(self);
    StartRead(&request_);
  }

  void ask(const Request& request) override {
    const MutexLock lock(mutex_);
    auto& waiting = requests_.at(static_cast<std::size_t>(request.kind));
    waiting.emplace();
    switch (request.kind) {
      case Request::Kind::target:
        waiting->mutable_set_target()->set_sequence(request.sequence);
        waiting->mutable_set_target()->set_target_bytes(request.target.count());
        break;
      case Request::Kind::stats:
        waiting->mutable_request_stats()->set_sequence(request.sequence);
        break;
      case Request::Kind::merging:
        waiting->mutable_set_merging()->set_sequence(request.sequence);
        waiting->mutable_set_merging()->set_merging(request.merging);
        break;
    }
    send_next();
  }

  void set_stats_interval(std::chrono::nanoseconds interval) override {
    const MutexLock lock(mutex_);
    interval_.emplace();
    set_duration(*interval_->mutable_set_stats_interval()->mutable_interval(), interval);
    send_next();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return finish(grpc::Status::OK);
    const bool taken = session_ ? take(request_) : join(request_);
    if (taken) StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (!ok && !end_) end_ = grpc::Status::OK;
    send_next();
  }

  void OnCancel() override { finish(grpc::Status::CANCELLED); }

  void OnDone() override {
    if (session_) {
      guests_.left(*session_);
      peers_.carries_guest(address_, false);
      --health_.connected;
    }
    {
      // Whoever called Finish has let go of the lock before this object may go.
      const MutexLock lock(mutex_);
      const grpc::StatusCode code = end_ ? end_->error_code() : grpc::StatusCode::CANCELLED;
      if (code != grpc::StatusCode::OK && code != grpc::StatusCode::CANCELLED) ++health_.errors;
      on_end_(code);
    }
    self_.reset();
  }

 private:
  bool join(const v1::ConnectRequest& request) {
    if (!request.has_register_()) {
      finish({grpc::StatusCode::INVALID_ARGUMENT, "the first message on a guest link must be register"});
      return false;
    }
    const auto session = guests_.joined(from_wire(request.register_()), peers_.peer_of(address_), self_);
    if (!session) {
      const bool exists = session.error().kind != JoinRefusal::Kind::invalid;
      finish({exists ? grpc::StatusCode::ALREADY_EXISTS : grpc::StatusCode::INVALID_ARGUMENT,
              session.error().reason});
      return false;
    }
    peers_.carries_guest(address_, true);
    ++health_.connected;
    const MutexLock lock(mutex_);
    session_ = *session;
    registered_.emplace();
    set_duration(*registered_->mutable_registered()->mutable_stats_interval(), stats_interval_);
    accepted_ = true;
    send_next();
    return true;
  }

  bool take(const v1::ConnectRequest& request) {
    switch (request.message_case()) {
      case v1::ConnectRequest::kStats:
        guests_.stats(*session_, from_wire(request.stats()));
        return true;
      case v1::ConnectRequest::kBalloon:
        guests_.balloon(*session_, from_wire(request.balloon()));
        return true;
      case v1::ConnectRequest::kTargetResult:
        answered(Request::Kind::target, request.target_result());
        return true;
      case v1::ConnectRequest::kStatsResult:  // the sample itself comes as statistics
        answered(Request::Kind::stats, request.stats_result());
        return true;
      case v1::ConnectRequest::kMergingResult:
        answered(Request::Kind::merging, request.merging_result());
        return true;
      case v1::ConnectRequest::kCounters:
        guests_.counters(*session_, from_wire(request.counters()));
        return true;
      case v1::ConnectRequest::kDropResult:
        return true;  // not asked for
      case v1::ConnectRequest::kRegister:
        finish({grpc::StatusCode::INVALID_ARGUMENT, "a guest registers once on a guest link"});
        return false;
      case v1::ConnectRequest::MESSAGE_NOT_SET:
        return true;  // a newer VMM's message that this daemon does not know
    }
    return true;
  }

  template <typename Result>
  void answered(Request::Kind kind, const Result& result) {
    guests_.answered(*session_, kind, result.sequence(), result.refusal());
  }

  void finish(grpc::Status status) {
    const MutexLock lock(mutex_);
    if (!end_) end_ = std::move(status);
    send_next();
  }

  /// Sends what waits, one message at a time; ends the stream once nothing is on its way.
  void send_next() REQUIRES(mutex_) {
    if (writing_ || finished_) return;
    if (end_) {
      finished_ = true;
      return Finish(*end_);
    }
    if (!accepted_) return;
    if (send(registered_) || send(requests_.at(static_cast<std::size_t>(Request::Kind::target))) ||
        send(interval_))
      return;
    for (auto& waiting : requests_) {
      if (send(waiting)) return;
    }
  }

  bool send(std::optional<v1::ConnectResponse>& waiting) REQUIRES(mutex_) {
    if (!waiting) return false;
    response_ = std::move(*waiting);
    waiting.reset();
    writing_ = true;
    StartWrite(&response_);
    return true;
  }

  GuestEvents& guests_;
  LinkPeers& peers_;
  BackendHealth& health_;
  const VmmLink::OnEnd& on_end_;
  const std::string address_;
  const std::chrono::nanoseconds stats_interval_;
  std::shared_ptr<LinkStream> self_;
  std::optional<Session> session_;  ///< used by the one reaction that reads, and at the end
  v1::ConnectRequest request_;

  Mutex mutex_;
  bool accepted_ GUARDED_BY(mutex_) = false;
  bool writing_ GUARDED_BY(mutex_) = false;
  bool finished_ GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> end_ GUARDED_BY(mutex_);
  std::optional<v1::ConnectResponse> registered_ GUARDED_BY(mutex_);
  std::optional<v1::ConnectResponse> interval_ GUARDED_BY(mutex_);
  /// By their kinds.
  std::array<std::optional<v1::ConnectResponse>, kRequestKinds> requests_ GUARDED_BY(mutex_);
  v1::ConnectResponse response_ GUARDED_BY(mutex_);
};

}  // namespace

VmmLink::VmmLink(GuestEvents& guests, LinkPeers& peers,
                 std::function<std::chrono::nanoseconds()> stats_interval, OnEnd on_end)
    : guests_(guests), peers_(peers), stats_interval_(std::move(stats_interval)), on_end_(std::move(on_end)) {
  health_.configured = true;
}

grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>* VmmLink::Connect(
    grpc::CallbackServerContext* context) {
  if (const auto allowed = peers_.may_link(context->peer()); !allowed.ok()) {
    on_end_(allowed.error_code());
    return new Refused(allowed);
  }
  auto stream =
      std::make_shared<LinkStream>(guests_, peers_, health_, on_end_, context->peer(), stats_interval_());
  LinkStream* const reactor = stream.get();
  reactor->start(std::move(stream));
  return reactor;
}

}  // namespace balloon::daemon
