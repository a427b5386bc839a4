// SPDX-License-Identifier: Apache-2.0
// The guest link's server without the daemon: what a VMM says, and what it is told.
#include "balloond/guests/vmm_link.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "tests/unit/balloond/guests/patience.h"

namespace balloon::daemon {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

/// Connections and guests, as far as the link knows of them. Told by gRPC's threads.
class Daemon final : public GuestEvents, public LinkPeers {
 public:
  std::expected<Session, JoinRefusal> joined(const Registration& registration, const Peer& peer,
                                             std::shared_ptr<GuestChannel> guest_channel) override {
    if (refusal) return std::unexpected(*refusal);
    if (asks_at_once) {
      guest_channel->ask({.kind = Request::Kind::merging, .sequence = 7, .merging = true});
      guest_channel->ask({.kind = Request::Kind::stats, .sequence = 8});
      guest_channel->set_stats_interval(2250ms);
      guest_channel->ask({.kind = Request::Kind::target, .sequence = 9, .target = Bytes{5}});
    }
    note([&] {
      said.push_back("joined: " + registration.name + " of " + std::to_string(peer.pid));
      channel = std::move(guest_channel);
    });
    return 3;
  }
  void stats(Session session, const StatsSample& stats) override {
    note([&] { said.push_back("stats " + of(session) + std::to_string(stats.actual.count())); });
  }
  void balloon(Session session, const BalloonState& balloon) override {
    note([&] { said.push_back("balloon " + of(session) + std::to_string(balloon.actual.count())); });
  }
  void counters(Session session, const BalloonCounters& counters) override {
    note([&] { said.push_back("counters " + of(session) + std::to_string(counters.inflated.count())); });
  }
  void answered(Session session, Request::Kind kind, std::uint64_t sequence,
                const std::string& refused) override {
    note([&] {
      said.push_back("answer " + of(session) + std::to_string(static_cast<int>(kind)) + "/" +
                     std::to_string(sequence) + refused);
    });
  }
  void left(Session session) override {
    note([&] { said.push_back("left " + of(session)); });
  }
  Peer peer_of(const std::string&) const override { return {.pid = 42, .uid = 1000}; }
  grpc::Status may_link(const std::string&) const override { return link; }
  void carries_guest(const std::string&, bool more) override {
    note([&] { carried += more ? 1 : -1; });
  }
  void ended(grpc::StatusCode code) {
    note([&] { ends.push_back(code); });
  }

  /// Waits until `is_so`; says whether it came to that.
  bool eventually(const std::function<bool()>& is_so) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, test::kPatience, is_so);
  }
  /// What it was told, once it was told `count` things.
  std::vector<std::string> told(std::size_t count) {
    EXPECT_TRUE(eventually([&] { return said.size() >= count; }));
    const std::lock_guard lock(mutex);
    return said;
  }

  GuestChannel& guest() {
    const std::lock_guard lock(mutex);
    return *channel;
  }
  int guests_carried() {
    const std::lock_guard lock(mutex);
    return carried;
  }

  std::optional<JoinRefusal> refusal;
  bool asks_at_once = false;  ///< of everybody who joins
  grpc::Status link;
  std::mutex mutex;
  std::shared_ptr<GuestChannel> channel;
  std::condition_variable changed;
  std::vector<std::string> said;
  std::vector<grpc::StatusCode> ends;
  int carried = 0;

 private:
  static std::string of(Session session) { return session == 3 ? "" : "of another session "; }
  void note(const std::function<void()>& change) {
    {
      const std::lock_guard lock(mutex);
      change();
    }
    changed.notify_all();
  }
};

class VmmLinkTest : public testing::Test {
 protected:
  VmmLinkTest() {
    grpc::ServerBuilder builder;
    builder.RegisterService(&link_);
    server_ = builder.BuildAndStart();
    stub_ = v1::GuestLinkService::NewStub(server_->InProcessChannel({}));
    context_.set_deadline(std::chrono::system_clock::now() + test::kPatience);
  }
  ~VmmLinkTest() override {
    context_.TryCancel();
    if (stream_) stream_->Finish();
    server_->Shutdown(std::chrono::system_clock::now() + 10s);
  }
  void connect() { stream_ = stub_->Connect(&context_); }
  void say(const std::function<void(v1::ConnectRequest&)>& fill) {
    v1::ConnectRequest request;
    fill(request);
    EXPECT_TRUE(stream_->Write(request));
  }
  void introduce() {
    say([](v1::ConnectRequest& request) { request.mutable_register_()->set_name("web"); });
  }
  /// A guest has joined, and knows it.
  void join() {
    connect();
    introduce();
    EXPECT_TRUE(hear().has_registered());
  }
  v1::ConnectResponse hear() {
    v1::ConnectResponse response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }
  /// How the daemon ends it.
  grpc::Status end() {
    v1::ConnectResponse ignored;
    while (stream_->Read(&ignored)) {
    }
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    return status;
  }
  /// Waits until the link is over for the daemon, too; returns its code for that.
  grpc::StatusCode ended() {
    EXPECT_TRUE(daemon_.eventually([this] { return !daemon_.ends.empty(); }));
    const std::lock_guard lock(daemon_.mutex);
    return daemon_.ends.front();
  }

  Daemon daemon_;
  VmmLink link_{daemon_, daemon_, [] { return 1500ms; },
                [this](grpc::StatusCode code) { daemon_.ended(code); }};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::GuestLinkService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ConnectRequest, v1::ConnectResponse>> stream_;
};

TEST_F(VmmLinkTest, AGuestThatJoinsIsToldTheIntervalOfItsStatistics) {
  EXPECT_TRUE(link_.health().configured);
  connect();
  introduce();
  const v1::ConnectResponse response = hear();
  ASSERT_TRUE(response.has_registered());
  EXPECT_EQ(response.registered().stats_interval().seconds(), 1);
  EXPECT_EQ(response.registered().stats_interval().nanos(), 500'000'000);
  EXPECT_THAT(daemon_.told(1), ElementsAre("joined: web of 42"));
  EXPECT_EQ(daemon_.guests_carried(), 1);
  EXPECT_EQ(link_.health().connected, 1U);
}

TEST_F(VmmLinkTest, WhatAVmmSaysIsToldOfItsGuest) {
  join();
  say([](v1::ConnectRequest& request) { request.mutable_stats()->set_actual_bytes(1); });
  say([](v1::ConnectRequest& request) { request.mutable_balloon()->set_actual_bytes(2); });
  say([](v1::ConnectRequest& request) { request.mutable_counters()->set_inflated_bytes(3); });
  say([](v1::ConnectRequest& request) {
    request.mutable_target_result()->set_sequence(4);
    request.mutable_target_result()->set_refusal(": no");
  });
  say([](v1::ConnectRequest& request) { request.mutable_stats_result()->set_sequence(5); });
  say([](v1::ConnectRequest& request) { request.mutable_merging_result()->set_sequence(6); });
  EXPECT_THAT(daemon_.told(7), ElementsAre("joined: web of 42", "stats 1", "balloon 2", "counters 3",
                                           "answer 0/4: no", "answer 1/5", "answer 2/6"));
}

TEST_F(VmmLinkTest, WhatThisDaemonDoesNotKnowIsPassedOver) {
  join();
  say([](v1::ConnectRequest&) {});
  say([](v1::ConnectRequest& request) { request.mutable_drop_result(); });
  say([](v1::ConnectRequest& request) { request.mutable_stats()->set_actual_bytes(1); });
  EXPECT_THAT(daemon_.told(2), ElementsAre("joined: web of 42", "stats 1"));
}

TEST_F(VmmLinkTest, WhatIsAskedOfAGuestBeforeItKnowsThatItJoinedFollowsTheTargetFirst) {
  daemon_.asks_at_once = true;
  join();
  v1::ConnectResponse response = hear();
  ASSERT_TRUE(response.has_set_target());
  EXPECT_EQ(response.set_target().sequence(), 9U);
  EXPECT_EQ(response.set_target().target_bytes(), 5U);
  response = hear();
  ASSERT_TRUE(response.has_set_stats_interval());
  EXPECT_EQ(response.set_stats_interval().interval().seconds(), 2);
  EXPECT_EQ(response.set_stats_interval().interval().nanos(), 250'000'000);
  response = hear();
  ASSERT_TRUE(response.has_request_stats());
  EXPECT_EQ(response.request_stats().sequence(), 8U);
  response = hear();
  ASSERT_TRUE(response.has_set_merging());
  EXPECT_EQ(response.set_merging().sequence(), 7U);
  EXPECT_TRUE(response.set_merging().merging());
}

TEST_F(VmmLinkTest, OfManyTargetsThatWaitTheNewestArrives) {
  join();
  constexpr std::uint64_t kMany = 1000;
  for (std::uint64_t i = 1; i <= kMany; ++i)
    daemon_.guest().ask({.kind = Request::Kind::target, .sequence = i, .target = Bytes{i}});
  for (std::uint64_t last = 0; last < kMany;) {
    const v1::ConnectResponse response = hear();
    ASSERT_GT(response.set_target().sequence(), last);
    last = response.set_target().sequence();
  }
}

TEST_F(VmmLinkTest, WhatIsAskedWhileNothingIsUnderWayIsSentAtOnce) {
  join();
  for (std::uint64_t i = 1; i <= 20; ++i) {
    daemon_.guest().ask({.kind = Request::Kind::target, .sequence = i});
    EXPECT_EQ(hear().set_target().sequence(), i);
    say([](v1::ConnectRequest& request) { request.mutable_stats(); });
    daemon_.told(2 * i);
    daemon_.guest().set_stats_interval(std::chrono::seconds(i));
    EXPECT_EQ(hear().set_stats_interval().interval().seconds(), static_cast<std::int64_t>(i));
    say([](v1::ConnectRequest& request) { request.mutable_stats(); });
    daemon_.told(2 * i + 1);
  }
}

TEST_F(VmmLinkTest, AVmmThatEndsItsLinkLeaves) {
  join();
  stream_->WritesDone();
  EXPECT_TRUE(end().ok());
  EXPECT_EQ(ended(), grpc::StatusCode::OK);
  EXPECT_THAT(daemon_.told(2), ElementsAre("joined: web of 42", "left "));
  EXPECT_EQ(daemon_.guests_carried(), 0);
  EXPECT_EQ(link_.health().connected, 0U);
  EXPECT_EQ(link_.health().errors, 0U);
  daemon_.guest().ask({.kind = Request::Kind::stats, .sequence = 1});  // harms nobody
}

TEST_F(VmmLinkTest, ALinkThatHasEndedIsFreed) {
  join();
  const std::weak_ptr<GuestChannel> link = std::exchange(daemon_.channel, {});
  stream_->WritesDone();
  EXPECT_TRUE(end().ok());
  const auto last = std::chrono::steady_clock::now() + test::kPatience;
  while (!link.expired() && std::chrono::steady_clock::now() < last) std::this_thread::yield();
  EXPECT_TRUE(link.expired());
}

TEST_F(VmmLinkTest, AVmmThatIsCutOffLeavesAndThatIsNoError) {
  join();
  context_.TryCancel();
  EXPECT_EQ(end().error_code(), grpc::StatusCode::CANCELLED);
  ended();
  EXPECT_THAT(daemon_.told(2), ElementsAre("joined: web of 42", "left "));
  EXPECT_EQ(link_.health().errors, 0U);
}

TEST_F(VmmLinkTest, ALinkThatBeginsWithAnythingElseIsRefused) {
  connect();
  say([](v1::ConnectRequest& request) { request.mutable_stats(); });
  const grpc::Status status = end();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "the first message on a guest link must be register");
  EXPECT_EQ(ended(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(link_.health().errors, 1U);
  EXPECT_EQ(link_.health().connected, 0U);
  EXPECT_TRUE(daemon_.told(0).empty());
}

TEST_F(VmmLinkTest, AGuestRegistersOnce) {
  join();
  introduce();
  const grpc::Status status = end();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "a guest registers once on a guest link");
  EXPECT_THAT(daemon_.told(2), ElementsAre("joined: web of 42", "left "));
}

TEST_F(VmmLinkTest, AGuestThatMayNotJoinIsToldWhy) {
  using Kind = JoinRefusal::Kind;
  const std::pair<Kind, grpc::StatusCode> refusals[] = {
      {Kind::invalid, grpc::StatusCode::INVALID_ARGUMENT},
      {Kind::already_exists, grpc::StatusCode::ALREADY_EXISTS},
      {Kind::already_managed, grpc::StatusCode::ALREADY_EXISTS}};
  for (const auto& [kind, code] : refusals) {
    daemon_.refusal = {.kind = kind, .reason = "no"};
    grpc::ClientContext context;
    const auto stream = stub_->Connect(&context);
    v1::ConnectRequest request;
    request.mutable_register_();
    stream->Write(request);
    const grpc::Status status = stream->Finish();
    EXPECT_EQ(status.error_code(), code);
    EXPECT_EQ(status.error_message(), "no");
  }
  EXPECT_TRUE(daemon_.eventually([this] { return daemon_.ends.size() == 3; }));
  EXPECT_EQ(daemon_.guests_carried(), 0);
}

TEST_F(VmmLinkTest, AConnectionThatMayHaveNoGuestIsRefused) {
  daemon_.link = {grpc::StatusCode::PERMISSION_DENIED, "not you"};
  connect();
  const grpc::Status status = end();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(status.error_message(), "not you");
  EXPECT_EQ(ended(), grpc::StatusCode::PERMISSION_DENIED);
}

}  // namespace
}  // namespace balloon::daemon
