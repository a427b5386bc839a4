#include "balloond/guests/vmm_link.h"

#include <mutex>
#include <optional>
#include <utility>

namespace balloon::daemon {
namespace {

void set_duration(google::protobuf::Duration& out, std::chrono::nanoseconds duration) {
  out.set_seconds(duration.count() / 1'000'000'000);
  out.set_nanos(static_cast<std::int32_t>(duration.count() % 1'000'000'000));
}

/// One guest's stream. It owns itself until OnDone; the registry shares it as the guest's channel. What waits
/// to be sent is at most one message of each kind: a newer target replaces one that is not on its way yet.
class LinkStream final : public grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>,
                         public GuestChannel {
 public:
  LinkStream(GuestEvents& guests, LinkPeers& peers, std::string address,
             std::chrono::nanoseconds stats_interval)
      : guests_(guests), peers_(peers), address_(std::move(address)), stats_interval_(stats_interval) {}

  void start(std::shared_ptr<LinkStream> self) {
    self_ = std::move(self);
    StartRead(&request_);
  }

  void set_target(std::uint64_t sequence, policy::Bytes target) override {
    const std::lock_guard lock(mutex_);
    target_.emplace();
    target_->mutable_set_target()->set_sequence(sequence);
    target_->mutable_set_target()->set_target_bytes(target);
    send_next();
  }

  void set_stats_interval(std::chrono::nanoseconds interval) override {
    const std::lock_guard lock(mutex_);
    interval_.emplace();
    set_duration(*interval_->mutable_set_stats_interval()->mutable_interval(), interval);
    send_next();
  }

  void request_stats(std::uint64_t sequence) override {
    const std::lock_guard lock(mutex_);
    request_stats_.emplace();
    request_stats_->mutable_request_stats()->set_sequence(sequence);
    send_next();
  }

  void set_merging(std::uint64_t sequence, bool merging) override {
    const std::lock_guard lock(mutex_);
    merging_.emplace();
    merging_->mutable_set_merging()->set_sequence(sequence);
    merging_->mutable_set_merging()->set_merging(merging);
    send_next();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return finish(grpc::Status::OK);
    const bool taken = session_ ? take(request_) : join(request_);
    if (taken) StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok && !end_) end_ = grpc::Status::OK;
    send_next();
  }

  void OnCancel() override { finish(grpc::Status::CANCELLED); }

  void OnDone() override {
    if (session_) {
      guests_.left(*session_);
      peers_.carries_guest(address_, false);
    }
    // Whoever called Finish has let go of the lock before this object may go.
    {
      const std::lock_guard lock(mutex_);
    }
    self_.reset();
  }

 private:
  bool join(const v1::ConnectRequest& request) {
    if (!request.has_register_()) {
      finish({grpc::StatusCode::INVALID_ARGUMENT, "the first message on a guest link must be register"});
      return false;
    }
    const auto session = guests_.joined(request.register_(), peers_.peer_of(address_), self_);
    if (!session) {
      const bool exists = session.error().kind == JoinRefusal::Kind::already_exists;
      finish({exists ? grpc::StatusCode::ALREADY_EXISTS : grpc::StatusCode::INVALID_ARGUMENT,
              session.error().reason});
      return false;
    }
    peers_.carries_guest(address_, true);
    const std::lock_guard lock(mutex_);
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
        guests_.stats(*session_, request.stats());
        return true;
      case v1::ConnectRequest::kBalloon:
        guests_.balloon(*session_, request.balloon());
        return true;
      case v1::ConnectRequest::kTargetResult:
        guests_.target_result(*session_, request.target_result().sequence(),
                              request.target_result().refusal());
        return true;
      case v1::ConnectRequest::kStatsResult:  // the sample itself comes as statistics
        guests_.stats_result(*session_, request.stats_result().sequence(), request.stats_result().refusal());
        return true;
      case v1::ConnectRequest::kMergingResult:
        guests_.merging_result(*session_, request.merging_result().sequence(),
                               request.merging_result().refusal());
        return true;
      case v1::ConnectRequest::kCounters:
        guests_.counters(*session_, request.counters());
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

  void finish(grpc::Status status) {
    const std::lock_guard lock(mutex_);
    if (!end_) end_ = std::move(status);
    send_next();
  }

  /// Sends what waits, one message at a time; ends the stream once nothing is on its way. Called with mutex_
  /// held.
  void send_next() {
    if (writing_ || finished_) return;
    if (end_) {
      finished_ = true;
      return Finish(*end_);
    }
    if (!accepted_) return;
    for (auto* waiting : {&registered_, &target_, &interval_, &request_stats_, &merging_}) {
      if (!*waiting) continue;
      response_ = std::move(**waiting);
      waiting->reset();
      writing_ = true;
      return StartWrite(&response_);
    }
  }

  GuestEvents& guests_;
  LinkPeers& peers_;
  const std::string address_;
  const std::chrono::nanoseconds stats_interval_;
  std::shared_ptr<LinkStream> self_;
  std::optional<Session> session_;  ///< used by the one reaction that reads, and at the end
  v1::ConnectRequest request_;

  std::mutex mutex_;  ///< guards all below
  bool accepted_ = false;
  bool writing_ = false;
  bool finished_ = false;
  std::optional<grpc::Status> end_;
  std::optional<v1::ConnectResponse> registered_, target_, interval_, request_stats_, merging_;
  v1::ConnectResponse response_;
};

}  // namespace

VmmLink::VmmLink(GuestEvents& guests, LinkPeers& peers,
                 std::function<std::chrono::nanoseconds()> stats_interval)
    : guests_(guests), peers_(peers), stats_interval_(std::move(stats_interval)) {}

grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>* VmmLink::Connect(
    grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<LinkStream>(guests_, peers_, context->peer(), stats_interval_());
  LinkStream* const reactor = stream.get();
  reactor->start(std::move(stream));
  return reactor;
}

}  // namespace balloon::daemon
