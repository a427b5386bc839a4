// SPDX-License-Identifier: Apache-2.0
#include "vmm/link/guest_link.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <optional>
#include <thread>
#include <utility>

#include "balloon/v1/guest_link.grpc.pb.h"
#include "base/log.h"
#include "base/mutex.h"
#include "vmm/link/messages.h"
#include "vmm/link/outbox.h"

namespace balloon::vmm {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// A restarted daemon finds its guests again within the first; the last keeps a host without a daemon quiet.
constexpr milliseconds kFirstBackoff{100};
constexpr milliseconds kLongestBackoff{3000};
/// Bounds of the statistics interval that a daemon may ask for; zero stops sampling.
constexpr nanoseconds kShortestStatsInterval = milliseconds(10);
constexpr nanoseconds kLongestStatsInterval = std::chrono::hours(1);

nanoseconds to_interval(const google::protobuf::Duration& duration) {
  if (duration.seconds() <= 0 && duration.nanos() <= 0) return {};
  const auto seconds = std::clamp<std::int64_t>(duration.seconds(), 0, 3600);
  return std::clamp(std::chrono::seconds(seconds) + nanoseconds(duration.nanos()), kShortestStatsInterval,
                    kLongestStatsInterval);
}

std::shared_ptr<grpc::Channel> dial(const std::string& socket) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(kFirstBackoff.count()));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(kFirstBackoff.count()));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(kLongestBackoff.count()));
  return grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

class GuestLink::Impl {
 public:
  Impl(GuestLinkConfig config, LinkedGuest guest)
      : config_(std::move(config)),
        guest_(std::move(guest)),
        stub_(v1::GuestLinkService::NewStub(dial(config_.socket))) {
    guest_.balloon.observe(
        [this](const BalloonStats& stats) {
          v1::GuestStats sample = to_message(stats);
          if (guest_.disk_read) sample.set_disk_read_bytes(guest_.disk_read().count());
          outbox_.put(std::move(sample));
          outbox_.put(to_message(stats.counters));
        },
        [this](const BalloonState& state) { outbox_.put(update(state)); });
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  ~Impl() {
    guest_.balloon.observe({}, {});
    thread_.request_stop();
    {
      const MutexLock lock(session_mutex_);
      if (context_ != nullptr) context_->TryCancel();
    }
    wake_.notify_all();
  }

  void set_paused(bool paused) {
    paused_ = paused;
    outbox_.put(update(guest_.balloon.state()));
  }

 private:
  using Stream = grpc::ClientReaderWriter<v1::ConnectRequest, v1::ConnectResponse>;

  v1::BalloonUpdate update(const BalloonState& state) const {
    v1::BalloonUpdate message = to_message(state);
    message.set_paused(paused_);
    return message;
  }

  void run(const std::stop_token& stop) {
    milliseconds backoff = kFirstBackoff;
    bool reported = false;  // one line for each loss, not one for each attempt
    while (!stop.stop_requested()) {
      bool registered = false;
      const grpc::Status status = session(stop, registered);
      if (stop.stop_requested()) return;
      if (registered) {
        backoff = kFirstBackoff;
        reported = false;
      }
      if (!reported) {
        log::warning("guest link to {} is down ({}); the balloon stays as it is, dialling again",
                     config_.socket,
                     status.error_message().empty() ? "the daemon hung up" : status.error_message());
        reported = true;
      }
      UniqueLock lock(session_mutex_);
      wake_.wait_for(lock.standard(), stop, backoff, [] { return false; });
      backoff = std::min(backoff * 2, kLongestBackoff);
    }
  }

  /// One stream from dialling to its end.
  grpc::Status session(const std::stop_token& stop, bool& registered) {
    grpc::ClientContext context;
    {
      const MutexLock lock(session_mutex_);
      if (stop.stop_requested()) return grpc::Status::CANCELLED;
      context_ = &context;
    }
    outbox_.open();
    const auto stream = stub_->Connect(&context);
    if (stream->Write(registration())) {
      const std::jthread writer([&] {
        while (const auto request = outbox_.take()) {
          if (!stream->Write(*request)) return;
        }
      });
      v1::ConnectResponse response;
      while (stream->Read(&response)) handle(response, registered);
      outbox_.close();
    }
    outbox_.close();
    const grpc::Status status = stream->Finish();
    {
      const MutexLock lock(session_mutex_);
      context_ = nullptr;
    }
    guest_.balloon.set_stats_interval({});
    return status;
  }

  v1::ConnectRequest registration() {
    v1::ConnectRequest request;
    v1::Register& message = *request.mutable_register_();
    message.set_name(config_.name);
    message.mutable_labels()->insert(config_.labels.begin(), config_.labels.end());
    message.set_memory_bytes(config_.memory.count());
    message.set_vcpus(config_.vcpus);
    message.set_vmm_version(BALLOON_VERSION);
    message.set_merging(guest_.merging());
    *message.mutable_balloon() = update(guest_.balloon.state());
    return request;
  }

  void handle(const v1::ConnectResponse& response, bool& registered) {
    switch (response.message_case()) {
      case v1::ConnectResponse::kRegistered:
        registered = true;
        log::info("guest link to {} is up", config_.socket);
        return guest_.balloon.set_stats_interval(to_interval(response.registered().stats_interval()));
      case v1::ConnectResponse::kSetTarget:
        return set_target(response.set_target());
      case v1::ConnectResponse::kSetStatsInterval:
        return guest_.balloon.set_stats_interval(to_interval(response.set_stats_interval().interval()));
      case v1::ConnectResponse::kRequestStats:
        return request_stats(response.request_stats().sequence());
      case v1::ConnectResponse::kDropFreePages:
        return drop_free_pages(response.drop_free_pages().sequence());
      case v1::ConnectResponse::kSetMerging:
        return set_merging(response.set_merging());
      case v1::ConnectResponse::MESSAGE_NOT_SET:
        return;  // of a newer daemon: nothing that we know
    }
  }

  void set_target(const v1::SetTarget& wanted) {
    v1::TargetResult result;
    result.set_sequence(wanted.sequence());
    if (const auto done = guest_.balloon.set_target(Bytes{wanted.target_bytes()}); !done) {
      log::warning("target refused: {}", done.error().message);
      result.set_refusal(done.error().message);
    }
    outbox_.put(std::move(result));
  }

  void request_stats(std::uint64_t sequence) {
    guest_.balloon.request_stats([this, sequence](const Result<BalloonStats>& stats) {
      v1::StatsResult result;
      result.set_sequence(sequence);
      if (stats) {
        *result.mutable_stats() = to_message(*stats);
      } else {
        result.set_refusal(stats.error().message);
      }
      outbox_.put(std::move(result));
    });
  }

  void drop_free_pages(std::uint64_t sequence) {
    guest_.balloon.drop_free_pages([this, sequence](const Result<Bytes>& dropped) {
      v1::DropResult result;
      result.set_sequence(sequence);
      dropped ? result.set_dropped_bytes(dropped->count()) : result.set_refusal(dropped.error().message);
      outbox_.put(std::move(result));
    });
  }

  void set_merging(const v1::SetMerging& wanted) {
    v1::MergingResult result;
    result.set_sequence(wanted.sequence());
    if (const auto done = guest_.set_merging(wanted.merging()); !done)
      result.set_refusal(done.error().message);
    outbox_.put(std::move(result));
  }

  // Lock order: the guest's, then the outbox's.
  const GuestLinkConfig config_;
  const LinkedGuest guest_;
  const std::unique_ptr<v1::GuestLinkService::Stub> stub_;
  Outbox outbox_;
  std::atomic<bool> paused_{false};  ///< read by the balloon's own thread, too

  Mutex session_mutex_;
  grpc::ClientContext* context_ GUARDED_BY(session_mutex_) = nullptr;  ///< of the session under way
  std::condition_variable_any wake_;
  std::jthread thread_;
};

GuestLink::GuestLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GuestLink::~GuestLink() = default;
void GuestLink::set_paused(bool paused) { impl_->set_paused(paused); }

Result<std::unique_ptr<GuestLink>> GuestLink::start(GuestLinkConfig config, LinkedGuest guest) {
  constexpr std::size_t kLongest = sizeof(sockaddr_un{}.sun_path) - 1;
  if (config.socket.empty()) return fail("guest link: the socket path is empty");
  if (config.socket.size() > kLongest) {
    return fail(fmt::format("guest link: socket path '{}' has {} bytes; a Unix socket's path has at most {}",
                            config.socket, config.socket.size(), kLongest));
  }
  return std::unique_ptr<GuestLink>(
      new GuestLink(std::make_unique<Impl>(std::move(config), std::move(guest))));
}

}  // namespace balloon::vmm
