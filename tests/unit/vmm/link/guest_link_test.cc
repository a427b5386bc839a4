// SPDX-License-Identifier: Apache-2.0
#include "vmm/link/guest_link.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>

#include "balloon/v1/guest_link.grpc.pb.h"
#include "vmm/link/outbox.h"

namespace balloon::vmm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class FakeBalloon : public BalloonControl {
 public:
  BalloonState state() const override {
    const std::lock_guard lock(mutex_);
    return state_;
  }
  Result<void> set_target(Bytes target) override {
    const std::lock_guard lock(mutex_);
    if (target > 2 * kGiB) return fail("above the boot memory");
    state_.target = state_.actual = target;
    if (on_state_) on_state_(state_);
    return {};
  }
  void set_stats_interval(std::chrono::nanoseconds interval) override {
    const std::lock_guard lock(mutex_);
    interval_ = interval;
  }
  void observe(std::function<void(const BalloonStats&)> on_stats,
               std::function<void(const BalloonState&)> on_state) override {
    const std::lock_guard lock(mutex_);
    on_stats_ = std::move(on_stats);
    on_state_ = std::move(on_state);
  }
  void request_stats(std::function<void(Result<BalloonStats>)> reply) override {
    const std::lock_guard lock(mutex_);
    if (!state_.has_stats) return reply(fail("no statistics"));
    reply(BalloonStats{.sampled_at = std::chrono::system_clock::now(), .round_trip = 1500us, .actual = kGiB});
  }
  void drop_free_pages(std::function<void(Result<Bytes>)> reply) override {
    const std::lock_guard lock(mutex_);
    dropped_ ? reply(*std::exchange(dropped_, std::nullopt)) : reply(fail("hinting is off"));
  }
  BalloonCounters counters() const override { return {}; }

  void set_dropped(Bytes bytes) {
    const std::lock_guard lock(mutex_);
    dropped_ = bytes;
  }
  void stop_statistics() {
    const std::lock_guard lock(mutex_);
    state_.has_stats = false;
  }
  /// Moves by one step, as a driver does.
  void step(Bytes actual) {
    const std::lock_guard lock(mutex_);
    state_.actual = actual;
    if (on_state_) on_state_(state_);
  }
  void send(Bytes available) {
    const std::lock_guard lock(mutex_);
    BalloonStats stats;
    stats.sampled_at = std::chrono::system_clock::now();
    stats.actual = state_.actual;
    stats.values[static_cast<std::size_t>(StatTag::available_memory)] = available.count();
    stats.values[static_cast<std::size_t>(StatTag::direct_reclaims)] = 15;
    stats.counters.freed = 77 * kMiB;
    if (on_stats_) on_stats_(stats);
  }
  std::chrono::nanoseconds interval() const {
    const std::lock_guard lock(mutex_);
    return interval_;
  }

 private:
  mutable std::mutex mutex_;
  BalloonState state_{.actual = 2 * kGiB, .target = 2 * kGiB, .driver_ready = true, .has_stats = true};
  std::chrono::nanoseconds interval_{};
  std::optional<Bytes> dropped_;
  std::function<void(const BalloonStats&)> on_stats_;
  std::function<void(const BalloonState&)> on_state_;
};

/// A daemon that records what it is told and says what the test wants.
class FakeDaemon : public v1::GuestLinkService::Service {
 public:
  using Stream = grpc::ServerReaderWriter<v1::ConnectResponse, v1::ConnectRequest>;

  explicit FakeDaemon(const std::string& socket) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeDaemon() override { server_->Shutdown(std::chrono::system_clock::now()); }

  grpc::Status Connect(grpc::ServerContext*, Stream* stream) override {
    v1::ConnectRequest request;
    while (stream->Read(&request)) {
      const std::lock_guard lock(mutex_);
      if (request.has_register_()) {
        v1::ConnectResponse response;
        response.mutable_registered()->mutable_stats_interval()->set_nanos(250'000'000);
        stream->Write(response);
        stream_ = stream;
      }
      received_.push_back(request);
      changed_.notify_all();
    }
    const std::lock_guard lock(mutex_);
    stream_ = nullptr;
    return grpc::Status::OK;
  }

  void say(const v1::ConnectResponse& response) {
    const std::lock_guard lock(mutex_);
    stream_->Write(response);
  }

  void set_target(std::uint64_t sequence, Bytes target) {
    v1::ConnectResponse response;
    response.mutable_set_target()->set_sequence(sequence);
    response.mutable_set_target()->set_target_bytes(target.count());
    const std::lock_guard lock(mutex_);
    stream_->Write(response);
  }

  int count(const std::function<bool(const v1::ConnectRequest&)>& matches) {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(std::ranges::count_if(received_, matches));
  }

  /// Waits for the first message, not seen before, of which `matches` holds; an empty message when none comes
  /// in time.
  v1::ConnectRequest wait(const std::function<bool(const v1::ConnectRequest&)>& matches) {
    std::unique_lock lock(mutex_);
    v1::ConnectRequest found;
    changed_.wait_for(lock, 10s, [&] {
      for (; seen_ < received_.size(); ++seen_) {
        if (matches(received_[seen_])) {
          found = received_[seen_++];
          return true;
        }
      }
      return false;
    });
    return found;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<v1::ConnectRequest> received_;
  std::size_t seen_ = 0;
  Stream* stream_ = nullptr;
  std::unique_ptr<grpc::Server> server_;
};

class GuestLinkTest : public testing::Test {
 protected:
  GuestLinkTest() {
    directory_ = std::filesystem::temp_directory_path() / ("link-" + std::to_string(getpid()));
    std::filesystem::create_directory(directory_);
    socket_ = directory_ / "s";
  }
  ~GuestLinkTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<GuestLink> start() {
    auto link = GuestLink::start(
        {.socket = socket_, .name = "A", .labels = {{"tier", "db"}}, .memory = 2 * kGiB, .vcpus = 2},
        guest());
    EXPECT_TRUE(link) << link.error().message;
    return std::move(*link);
  }
  LinkedGuest guest() {
    return {.balloon = balloon_,
            .merging = [this] { return merging_.load(); },
            .set_merging = [this](bool on) -> Result<void> {
              if (on) return fail("memory: merge and lock contradict each other");
              merging_ = false;
              return {};
            },
            .disk_read = [] { return 9 * kMiB; }};
  }

  std::filesystem::path directory_;
  std::string socket_;
  FakeBalloon balloon_;
  std::atomic<bool> merging_ = true;
};

bool is_register(const v1::ConnectRequest& request) { return request.has_register_(); }

TEST_F(GuestLinkTest, RegistersTheGuestAndStartsItsStatistics) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  const auto message = daemon.wait(is_register).register_();
  EXPECT_EQ(message.name(), "A");
  EXPECT_EQ(message.labels().at("tier"), "db");
  EXPECT_EQ(message.memory_bytes(), (2 * kGiB).count());
  EXPECT_EQ(message.vcpus(), 2U);
  EXPECT_EQ(message.balloon().actual_bytes(), (2 * kGiB).count());
  for (int i = 0; i < 500 && balloon_.interval() != 250ms; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(balloon_.interval(), 250ms);
}

TEST_F(GuestLinkTest, CarriesStatisticsTagByTag) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  balloon_.send(123 * kMiB);
  const auto stats = daemon.wait([](const auto& request) { return request.has_stats(); }).stats();
  EXPECT_EQ(stats.available_bytes(), (123 * kMiB).count());
  EXPECT_EQ(stats.direct_reclaims(), 15U);
  EXPECT_FALSE(stats.has_free_bytes()) << "a tag that the guest did not send";
  EXPECT_EQ(stats.actual_bytes(), (2 * kGiB).count());
  EXPECT_EQ(stats.disk_read_bytes(), (9 * kMiB).count()) << "what its disks served goes with them";
  EXPECT_GT(stats.sampled_at().seconds(), 1'700'000'000);
}

TEST_F(GuestLinkTest, MovesTheBalloonAndAnswers) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  daemon.set_target(7, kGiB);
  const auto result =
      daemon.wait([](const auto& request) { return request.has_target_result(); }).target_result();
  EXPECT_EQ(result.sequence(), 7U);
  EXPECT_EQ(result.refusal(), "");
  EXPECT_EQ(balloon_.state().target, kGiB);
  daemon.set_target(8, 3 * kGiB);
  const auto refused =
      daemon.wait([](const auto& request) { return request.has_target_result(); }).target_result();
  EXPECT_EQ(refused.sequence(), 8U);
  EXPECT_THAT(refused.refusal(), HasSubstr("above the boot memory"));
  EXPECT_EQ(balloon_.state().target, kGiB);
}

TEST_F(GuestLinkTest, BringsAFreshSampleOnRequestWithTheTimeItTook) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  v1::ConnectResponse ask;
  ask.mutable_request_stats()->set_sequence(3);
  daemon.say(ask);
  const auto result =
      daemon.wait([](const auto& request) { return request.has_stats_result(); }).stats_result();
  EXPECT_EQ(result.sequence(), 3U);
  EXPECT_EQ(result.stats().actual_bytes(), kGiB.count());
  EXPECT_EQ(result.stats().round_trip().nanos(), 1'500'000);
  balloon_.stop_statistics();
  ask.mutable_request_stats()->set_sequence(4);
  daemon.say(ask);
  const auto refused =
      daemon.wait([](const auto& request) { return request.has_stats_result(); }).stats_result();
  EXPECT_EQ(refused.sequence(), 4U);
  EXPECT_FALSE(refused.has_stats());
  EXPECT_THAT(refused.refusal(), HasSubstr("no statistics"));
}

TEST_F(GuestLinkTest, TurnsKsmOnAndOffOrSaysWhyNot) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  const auto set = [&](std::uint64_t sequence, bool merging) {
    v1::ConnectResponse ask;
    ask.mutable_set_merging()->set_sequence(sequence);
    ask.mutable_set_merging()->set_merging(merging);
    daemon.say(ask);
    return daemon.wait([](const auto& request) { return request.has_merging_result(); }).merging_result();
  };
  const auto off = set(1, false);
  EXPECT_EQ(off.sequence(), 1U);
  EXPECT_EQ(off.refusal(), "");
  EXPECT_FALSE(merging_);
  const auto on = set(2, true);
  EXPECT_EQ(on.sequence(), 2U);
  EXPECT_THAT(on.refusal(), HasSubstr("merge and lock"));
}

TEST_F(GuestLinkTest, DropsTheGuestsFreePagesOnRequest) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  balloon_.set_dropped(5 * kMiB);
  const auto drop = [&](std::uint64_t sequence) {
    v1::ConnectResponse ask;
    ask.mutable_drop_free_pages()->set_sequence(sequence);
    daemon.say(ask);
    return daemon.wait([](const auto& request) { return request.has_drop_result(); }).drop_result();
  };
  EXPECT_EQ(drop(1).dropped_bytes(), (5 * kMiB).count());
  const auto refused = drop(2);
  EXPECT_EQ(refused.sequence(), 2U);
  EXPECT_THAT(refused.refusal(), HasSubstr("off"));
}

TEST_F(GuestLinkTest, TellsTheCountersWithEachSample) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  balloon_.send(kMiB);
  EXPECT_EQ(daemon.wait([](const auto& request) { return request.has_counters(); }).counters().freed_bytes(),
            (77 * kMiB).count());
}

TEST_F(GuestLinkTest, ASteppingBalloonIsToldAtOnceThenAtMostEvery100MsAndItsLastStepAlways) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  const auto balloon_of = [&](Bytes actual) {
    return daemon
        .wait([&](const auto& request) {
          return request.has_balloon() && request.balloon().actual_bytes() == actual.count();
        })
        .has_balloon();
  };
  std::this_thread::sleep_for(50ms);
  const auto before = std::chrono::steady_clock::now();
  for (std::uint64_t step = 1; step <= 500; ++step) {
    balloon_.step(2 * kGiB - step * kMiB);
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_TRUE(balloon_of(2 * kGiB - 500 * kMiB));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
  const double told =
      static_cast<double>(daemon.count([](const auto& request) { return request.has_balloon(); }));
  EXPECT_GE(told, 3);
  EXPECT_LE(told, 3 + took / Outbox::kBalloonPause);
}

TEST_F(GuestLinkTest, ThatABalloonHasReachedItsTargetIsToldAtOnce) {
  FakeDaemon daemon(socket_);
  const auto link = start();
  daemon.wait(is_register);
  const auto arrival_of = [&](Bytes actual) {
    const auto before = std::chrono::steady_clock::now();
    EXPECT_TRUE(daemon
                    .wait([&](const auto& request) {
                      return request.has_balloon() && request.balloon().actual_bytes() == actual.count();
                    })
                    .has_balloon());
    return std::chrono::steady_clock::now() - before;
  };
  constexpr int kMoves = 20;
  std::chrono::nanoseconds waited{};
  for (int move = 0; move < kMoves; ++move) {
    balloon_.step(kGiB);
    arrival_of(kGiB);
    balloon_.step(2 * kGiB);  // its target
    waited += arrival_of(2 * kGiB);
  }
  EXPECT_LT(waited / kMoves, Outbox::kBalloonPause / 2);
}

TEST_F(GuestLinkTest, FindsARestartedDaemonAgainAndTellsItWhereTheBalloonAndKsmAre) {
  auto daemon = std::make_unique<FakeDaemon>(socket_);
  const auto link = start();
  EXPECT_TRUE(daemon->wait(is_register).register_().merging()) << "as it was started";
  daemon->set_target(1, kGiB);
  daemon->wait([](const auto& request) { return request.has_target_result(); });
  v1::ConnectResponse end_merging;
  end_merging.mutable_set_merging()->set_sequence(1);
  daemon->say(end_merging);
  daemon->wait([](const auto& request) { return request.has_merging_result(); });
  daemon.reset();
  EXPECT_EQ(balloon_.state().target, kGiB) << "losing the daemon changes no balloon";
  std::filesystem::remove(socket_);
  daemon = std::make_unique<FakeDaemon>(socket_);
  const auto message = daemon->wait(is_register).register_();
  EXPECT_EQ(message.balloon().target_bytes(), kGiB.count());
  EXPECT_TRUE(message.has_merging());
  EXPECT_FALSE(message.merging());
}

TEST_F(GuestLinkTest, TellsThatTheGuestIsPausedAlsoToADaemonThatComesLater) {
  const auto link = start();
  link->set_paused(true);
  FakeDaemon daemon(socket_);
  EXPECT_TRUE(daemon.wait(is_register).register_().balloon().paused());
  link->set_paused(false);
  const auto update =
      daemon.wait([](const auto& request) { return request.has_balloon() && !request.balloon().paused(); });
  EXPECT_TRUE(update.has_balloon()) << "it goes on";
}

TEST_F(GuestLinkTest, StopsAtOnceWhileNobodyAnswers) {
  const auto link = start();
  std::this_thread::sleep_for(50ms);
}  // the destructor must not hang

TEST_F(GuestLinkTest, RefusesASocketPathThatCannotBe) {
  const auto link = GuestLink::start(
      {.socket = "/" + std::string(200, 'x'), .name = "A", .labels = {}, .memory = kGiB}, guest());
  ASSERT_FALSE(link);
  EXPECT_THAT(link.error().message, HasSubstr("at most 107"));
}

}  // namespace
}  // namespace balloon::vmm
