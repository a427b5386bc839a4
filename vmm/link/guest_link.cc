// SPDX-License-Identifier: Apache-2.0
#include "vmm/link/guest_link.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "balloon/v1/guest_link.grpc.pb.h"
#include "base/log.h"
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
constexpr const char* kRebooting = "the guest is rebooting";

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
  explicit Impl(GuestLinkConfig config)
      : config_(std::move(config)), stub_(v1::GuestLinkService::NewStub(dial(config_.socket))) {
    last_state_.actual = last_state_.target = config_.memory;
    merging_ = config_.merging;
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  ~Impl() {
    attach(nullptr, {}, {});
    thread_.request_stop();
    {
      const std::lock_guard lock(session_mutex_);
      if (context_ != nullptr) context_->TryCancel();
    }
    wake_.notify_all();
  }

  void attach(BalloonControl* balloon, SetMerging merge, DiskRead disk_read) {
    const std::lock_guard lock(balloon_mutex_);
    if (balloon_ != nullptr) {
      balloon_->observe({}, {});
      last_state_ = balloon_->state();
      last_state_.driver_ready = false;
      outbox_.put(update(last_state_));
    }
    balloon_ = balloon;
    set_merging_ = std::move(merge);
    if (balloon_ == nullptr) return;
    balloon_->observe(
        [this, disk_read = std::move(disk_read)](const BalloonStats& stats) {
          v1::GuestStats sample = to_message(stats);
          if (disk_read) sample.set_disk_read_bytes(disk_read());
          outbox_.put(std::move(sample));
          outbox_.put(to_message(stats.counters));
        },
        [this](const BalloonState& state) { outbox_.put(update(state)); });
    balloon_->set_stats_interval(stats_interval_);
    outbox_.put(update(balloon_->state()));
    if (const auto wanted = std::exchange(waiting_merging_, std::nullopt)) answer(*wanted);
  }

  void set_paused(bool paused) {
    const std::lock_guard lock(balloon_mutex_);
    paused_ = paused;
    outbox_.put(update(balloon_ != nullptr ? balloon_->state() : last_state_));
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
      std::unique_lock lock(session_mutex_);
      wake_.wait_for(lock, stop, backoff, [] { return false; });
      backoff = std::min(backoff * 2, kLongestBackoff);
    }
  }

  /// One stream from dialling to its end.
  grpc::Status session(const std::stop_token& stop, bool& registered) {
    grpc::ClientContext context;
    {
      const std::lock_guard lock(session_mutex_);
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
      const std::lock_guard lock(session_mutex_);
      context_ = nullptr;
    }
    {
      const std::lock_guard lock(balloon_mutex_);
      waiting_merging_.reset();  // who asked is gone
    }
    set_stats_interval({});
    return status;
  }

  v1::ConnectRequest registration() {
    v1::ConnectRequest request;
    v1::Register& message = *request.mutable_register_();
    message.set_name(config_.name);
    message.mutable_labels()->insert(config_.labels.begin(), config_.labels.end());
    message.set_memory_bytes(config_.memory);
    message.set_vcpus(config_.vcpus);
    message.set_vmm_version(BALLOON_VERSION);
    const std::lock_guard lock(balloon_mutex_);
    message.set_merging(merging_);
    *message.mutable_balloon() = update(balloon_ != nullptr ? balloon_->state() : last_state_);
    return request;
  }

  void handle(const v1::ConnectResponse& response, bool& registered) {
    switch (response.message_case()) {
      case v1::ConnectResponse::kRegistered:
        registered = true;
        log::info("guest link to {} is up", config_.socket);
        return set_stats_interval(to_interval(response.registered().stats_interval()));
      case v1::ConnectResponse::kSetTarget:
        return set_target(response.set_target());
      case v1::ConnectResponse::kSetStatsInterval:
        return set_stats_interval(to_interval(response.set_stats_interval().interval()));
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
    {
      const std::lock_guard lock(balloon_mutex_);
      if (balloon_ == nullptr) {
        result.set_refusal(kRebooting);
      } else if (const auto done = balloon_->set_target(wanted.target_bytes()); !done) {
        result.set_refusal(done.error().message);
      }
    }
    if (!result.refusal().empty()) log::warning("target refused: {}", result.refusal());
    outbox_.put(std::move(result));
  }

  void request_stats(std::uint64_t sequence) {
    const auto reply = [this, sequence](const Result<BalloonStats>& stats) {
      v1::StatsResult result;
      result.set_sequence(sequence);
      if (stats) {
        *result.mutable_stats() = to_message(*stats);
      } else {
        result.set_refusal(stats.error().message);
      }
      outbox_.put(std::move(result));
    };
    const std::lock_guard lock(balloon_mutex_);
    balloon_ != nullptr ? balloon_->request_stats(reply) : reply(fail(kRebooting));
  }

  void drop_free_pages(std::uint64_t sequence) {
    const auto reply = [this, sequence](const Result<Bytes>& dropped) {
      v1::DropResult result;
      result.set_sequence(sequence);
      dropped ? result.set_dropped_bytes(*dropped) : result.set_refusal(dropped.error().message);
      outbox_.put(std::move(result));
    };
    const std::lock_guard lock(balloon_mutex_);
    balloon_ != nullptr ? balloon_->drop_free_pages(reply) : reply(fail(kRebooting));
  }

  /// While the guest reboots nobody can refuse it for good: the next machine does it.
  void set_merging(const v1::SetMerging& wanted) {
    const std::lock_guard lock(balloon_mutex_);
    if (balloon_ == nullptr) {
      waiting_merging_ = wanted;
    } else {
      answer(wanted);
    }
  }

  void answer(const v1::SetMerging& wanted) {
    v1::MergingResult result;
    result.set_sequence(wanted.sequence());
    if (const auto done = set_merging_(wanted.merging()); !done) {
      result.set_refusal(done.error().message);
    } else {
      merging_ = wanted.merging();
    }
    outbox_.put(std::move(result));
  }

  void set_stats_interval(nanoseconds interval) {
    const std::lock_guard lock(balloon_mutex_);
    stats_interval_ = interval;
    if (balloon_ != nullptr) balloon_->set_stats_interval(interval);
  }

  // Lock order: balloon_mutex_, then the balloon's own, then the outbox's.
  const GuestLinkConfig config_;
  const std::unique_ptr<v1::GuestLinkService::Stub> stub_;
  Outbox outbox_;

  std::mutex balloon_mutex_;
  BalloonControl* balloon_ = nullptr;
  SetMerging set_merging_;                         ///< of the same machine
  std::optional<v1::SetMerging> waiting_merging_;  ///< asked while there is none; the newest counts
  bool merging_ = false;                           ///< of it, and of the next one: a reboot changes nothing
  BalloonState last_state_;
  std::atomic<bool> paused_{false};  ///< read by the balloon's own thread, too
  nanoseconds stats_interval_{};

  std::mutex session_mutex_;
  grpc::ClientContext* context_ = nullptr;  ///< of the session under way
  std::condition_variable_any wake_;
  std::jthread thread_;
};

GuestLink::GuestLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GuestLink::~GuestLink() = default;
void GuestLink::attach(BalloonControl& balloon, SetMerging set_merging, DiskRead disk_read) {
  impl_->attach(&balloon, std::move(set_merging), std::move(disk_read));
}
void GuestLink::detach() { impl_->attach(nullptr, {}, {}); }
void GuestLink::set_paused(bool paused) { impl_->set_paused(paused); }

Result<std::unique_ptr<GuestLink>> GuestLink::start(GuestLinkConfig config) {
  constexpr std::size_t kLongest = sizeof(sockaddr_un{}.sun_path) - 1;
  if (config.socket.empty()) return fail("guest link: the socket path is empty");
  if (config.socket.size() > kLongest) {
    return fail(fmt::format("guest link: socket path '{}' has {} bytes; a Unix socket's path has at most {}",
                            config.socket, config.socket.size(), kLongest));
  }
  return std::unique_ptr<GuestLink>(new GuestLink(std::make_unique<Impl>(std::move(config))));
}

}  // namespace balloon::vmm
