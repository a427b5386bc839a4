// SPDX-License-Identifier: Apache-2.0
// The daemon's end of one guest link, which does nothing but ask for statistics, one sample after the other,
// and prints how long each took: by the VMM's own account, from its request to the guest's buffer, and over
// the link.
//   stats-probe SOCKET SAMPLES      {"round_trip_us":[...],"link_us":[...],"asked_at_us":[...]}
// asked_at_us is of CLOCK_MONOTONIC.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "balloon/v1/guest_link.grpc.pb.h"

namespace {

using balloon::v1::ConnectRequest;
using balloon::v1::ConnectResponse;
using Clock = std::chrono::steady_clock;
using Stream = grpc::ServerReaderWriter<ConnectResponse, ConnectRequest>;

/// A daemon does not ask without pause, either; an idle guest is asleep in between.
constexpr auto kPause = std::chrono::milliseconds(20);

double microseconds(Clock::duration span) { return std::chrono::duration<double, std::micro>(span).count(); }

class Probe final : public balloon::v1::GuestLinkService::Service {
 public:
  explicit Probe(std::uint64_t samples) : samples_(samples) {}

  grpc::Status Connect(grpc::ServerContext*, Stream* stream) override {
    ConnectRequest message;
    if (!stream->Read(&message) || !message.has_register_()) return bad("the first message is no Register");
    ConnectResponse answer;
    answer.mutable_registered();
    stream->Write(answer);
    bool ready = message.register_().balloon().driver_ready() && message.register_().balloon().has_stats();
    while (!ready && stream->Read(&message)) {
      ready = message.has_balloon() && message.balloon().driver_ready() && message.balloon().has_stats();
    }
    for (std::uint64_t number = 1; number <= samples_; ++number) {
      std::this_thread::sleep_for(kPause);
      if (!take_sample(*stream, number)) break;
    }
    const std::lock_guard lock(mutex_);
    done_ = true;
    ended_.notify_all();
    return grpc::Status::OK;
  }

  /// Waits for the one guest; whether it answered every request.
  bool wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return done_; });
    return link_.size() == samples_;
  }

  void print() const {
    std::printf("{\"round_trip_us\":%s,\"link_us\":%s,\"asked_at_us\":%s}\n", list(round_trip_).c_str(),
                list(link_).c_str(), list(asked_at_).c_str());
    std::fflush(stdout);
  }

 private:
  static grpc::Status bad(const char* what) { return {grpc::StatusCode::INVALID_ARGUMENT, what}; }

  bool take_sample(Stream& stream, std::uint64_t number) {
    ConnectResponse request;
    request.mutable_request_stats()->set_sequence(number);
    const auto start = Clock::now();
    if (!stream.Write(request)) return false;
    ConnectRequest message;
    while (stream.Read(&message)) {
      if (!message.has_stats_result() || message.stats_result().sequence() != number) continue;
      if (!message.stats_result().refusal().empty()) {
        std::fprintf(stderr, "refused: %s\n", message.stats_result().refusal().c_str());
        return false;
      }
      const auto& took = message.stats_result().stats().round_trip();
      round_trip_.push_back(static_cast<double>(took.seconds()) * 1e6 +
                            static_cast<double>(took.nanos()) / 1e3);
      link_.push_back(microseconds(Clock::now() - start));
      asked_at_.push_back(microseconds(start.time_since_epoch()));
      return true;
    }
    std::fprintf(stderr, "the VMM hung up\n");
    return false;
  }

  static std::string list(const std::vector<double>& values) {
    std::string out = "[";
    for (const double value : values) out += (out.size() > 1 ? "," : "") + std::to_string(value);
    return out + "]";
  }

  const std::uint64_t samples_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::vector<double> round_trip_;
  std::vector<double> link_;
  std::vector<double> asked_at_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t samples = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (samples == 0) {
    std::fprintf(stderr, "usage: stats-probe SOCKET SAMPLES\n");
    return 2;
  }
  Probe probe(samples);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + std::string(argv[1]), grpc::InsecureServerCredentials());
  builder.RegisterService(&probe);
  const auto server = builder.BuildAndStart();
  if (!server) {
    std::fprintf(stderr, "stats-probe: cannot listen at %s\n", argv[1]);
    return 1;
  }
  const bool complete = probe.wait();
  probe.print();
  server->Shutdown(std::chrono::system_clock::now());
  return complete ? 0 : 1;
}
