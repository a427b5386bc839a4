// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <thread>

#include "balloon/v1/scheduler.grpc.pb.h"
#include "balloond/api/server.h"
#include "balloond/control/tick.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;
using namespace std::chrono_literals;

/// The real server on a socket, over a registry whose ticks the test makes.
class ApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tree_.host("8388608", "7340032");
    tree_.process(42, "1024");
    host_.emplace(tree_.root());
    ticker_.emplace(clock_, guests_, *host_, states_, policy::rules::PolicyFile(), nullptr, &reservations_);
    auto socket = UnixSocket::listen(path_, 0600, "");
    ASSERT_TRUE(socket) << socket.error().message;
    server_.emplace(Entrance{.socket = std::move(*socket)}, clock_, guests_, states_, reservations_, pins_,
                    control_, needs_, calls_, [this] { return serving_.load(); });
    ASSERT_TRUE(server_->start());
    const auto channel = grpc::CreateChannel("unix:" + path_, grpc::InsecureChannelCredentials());
    stub_ = v1::SchedulerService::NewStub(channel);
    health_ = grpc::health::v1::Health::NewStub(channel);
  }
  void join(const std::string& name = "a", policy::Bytes memory = 2 * kGiB) {
    ASSERT_TRUE(guests_.joined(test::registration(name, memory, kGiB), {.pid = 42, .uid = 0},
                               std::make_shared<test::FakeChannel>()));
    ticker_->tick();
  }
  grpc::Status set(const std::string& name, policy::Bytes target, std::optional<std::int64_t> seconds = {}) {
    grpc::ClientContext context;
    v1::SetTargetRequest request;
    request.set_name(name);
    request.set_target_bytes(target.count());
    if (seconds) request.mutable_duration()->set_seconds(*seconds);
    v1::SetTargetResponse response;
    return stub_->SetTarget(&context, request, &response);
  }

  test::FakeTree tree_;
  const std::string path_ = tree_.root() + "/socket";
  test::FakeClock clock_;
  StateStore states_;
  Registry guests_{clock_, tree_.root()};
  ReservationBook reservations_{clock_};
  ControlSwitch control_{clock_};
  PinKeeper pins_{guests_};
  NeedHistory needs_{clock_};
  CallCounters calls_;
  std::optional<HostSampler> host_;
  std::optional<Ticker> ticker_;
  std::atomic<bool> serving_{true};
  std::optional<Server> server_;
  std::unique_ptr<v1::SchedulerService::Stub> stub_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

TEST_F(ApiTest, TheHostIsUnavailableUntilItHasBeenSampled) {
  v1::GetHostResponse response;
  grpc::ClientContext before;
  EXPECT_EQ(stub_->GetHost(&before, {}, &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  ticker_->tick();
  grpc::ClientContext after;
  EXPECT_TRUE(stub_->GetHost(&after, {}, &response).ok());
  EXPECT_EQ(response.host().total_bytes(), (8 * kGiB).count());
}

TEST_F(ApiTest, AListComesInPagesThatHaveEachGuestOnceAndSayOfWhichStateTheyAre) {
  for (const char* const name : {"a", "b", "c", "d", "e"}) join(name, kGiB);
  ticker_->tick();
  std::string names;
  v1::ListGuestsRequest request;
  request.set_page_size(2);
  int pages = 0;
  do {
    grpc::ClientContext context;
    v1::ListGuestsResponse response;
    ASSERT_TRUE(stub_->ListGuests(&context, request, &response).ok());
    EXPECT_LE(response.guests_size(), 2);
    for (const v1::Guest& guest : response.guests()) names += guest.name();
    EXPECT_EQ(response.generation().revision(), states_.newest()->revision);
    EXPECT_EQ(response.generation().epoch(), states_.epoch());
    request.set_page_token(response.next_page_token());
    ++pages;
  } while (!request.page_token().empty());
  EXPECT_EQ(names, "abcde");
  EXPECT_EQ(pages, 3);
  request.set_page_token("../a");
  grpc::ClientContext bad;
  v1::ListGuestsResponse response;
  EXPECT_EQ(stub_->ListGuests(&bad, request, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ApiTest, ReservationsComeInPagesThoughOneEndsInBetween) {
  ReservationRequest wish{.min = kMiB, .max = kMiB, .within = 30s, .lease = 60s, .detached = true};
  for (const char* const id : {"a", "b", "c", "d"}) {
    wish.id = id;
    ASSERT_TRUE(reservations_.ask(wish, nullptr, nullptr));
  }
  v1::ListReservationsRequest request;
  request.set_page_size(2);
  const auto page = [&] {
    grpc::ClientContext context;
    v1::ListReservationsResponse response;
    EXPECT_TRUE(stub_->ListReservations(&context, request, &response).ok());
    std::string ids;
    for (const v1::Reservation& each : response.reservations()) ids += each.id();
    request.set_page_token(response.next_page_token());
    return ids;
  };
  EXPECT_EQ(page(), "ab");
  ASSERT_TRUE(reservations_.release("b", {.force = true}, [](const ReservationOutcome&) {}));
  EXPECT_EQ(page(), "cd");
  EXPECT_EQ(request.page_token(), "");
}

TEST_F(ApiTest, AWatchThatResumesIsSentOnlyWhatItHasNot) {
  ticker_->tick();
  const auto first = [&](const v1::WatchGuestsRequest& request) {
    grpc::ClientContext context;
    const auto stream = stub_->WatchGuests(&context, request);
    std::thread later([&] {
      std::this_thread::sleep_for(300ms);
      ticker_->tick();
    });
    v1::WatchGuestsResponse state;
    EXPECT_TRUE(stream->Read(&state));
    later.join();
    context.TryCancel();
    return state;
  };
  const v1::WatchGuestsResponse known = first({});
  EXPECT_EQ(known.epoch(), states_.epoch());
  v1::WatchGuestsRequest request;
  request.mutable_after()->set_epoch(known.epoch());
  request.mutable_after()->set_revision(states_.newest()->revision);
  EXPECT_EQ(first(request).revision(), request.after().revision() + 1) << "the newest is known already";
  EXPECT_EQ(first(request).revision(), request.after().revision() + 1) << "after a gap: the newest, at once";
  request.mutable_after()->set_epoch("of another daemon");
  request.mutable_after()->set_revision(1000);
  EXPECT_LT(first(request).revision(), 1000U) << "revisions of another epoch say nothing";
}

/// A call of Reserve that is under way.
class Reserving {
 public:
  Reserving(v1::SchedulerService::Stub& stub, v1::ReserveRequest request)
      : thread_([this, &stub, request = std::move(request)] {
          status_ = stub.Reserve(&context_, request, &response_);
          done_ = true;
        }) {}
  ~Reserving() { wait(); }
  bool done() const { return done_; }
  void cancel() { context_.TryCancel(); }
  const grpc::Status& wait() {
    if (thread_.joinable()) thread_.join();
    return status_;
  }
  const v1::Reservation& reservation() const { return response_.reservation(); }

 private:
  grpc::ClientContext context_;
  grpc::Status status_;
  v1::ReserveResponse response_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

v1::ReserveRequest wish(const std::string& id, policy::Bytes min) {
  v1::ReserveRequest request;
  request.set_id(id);
  request.set_min_bytes(min.count());
  return request;
}

TEST_F(ApiTest, ReserveIsValidatedWithCanonicalCodes) {
  const auto refused = [this](const std::function<void(v1::ReserveRequest&)>& spoil) {
    v1::ReserveRequest request = wish("b", kGiB);
    spoil(request);
    return Reserving(*stub_, request).wait().error_code() == grpc::StatusCode::INVALID_ARGUMENT;
  };
  EXPECT_TRUE(refused([](auto& request) { request.set_id(""); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_id("../b"); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_id(std::string(65, 'b')); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_min_bytes(0); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_min_bytes(~0ULL); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_max_bytes(kMiB.count()); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_max_bytes(~0ULL); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_priority(0); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_priority(~0U); }));
  EXPECT_TRUE(refused([](auto& request) { request.mutable_within()->set_seconds(-1); }));
  EXPECT_TRUE(refused([](auto& request) { request.mutable_lease()->set_seconds(25 * 3600); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_request_id(std::string(129, 'r')); }));
  EXPECT_TRUE(refused([](auto& request) { request.set_owner("a\nb"); }));
  EXPECT_TRUE(reservations_.list().empty());
}

TEST_F(ApiTest, ReserveIsAnsweredOnceTheMemoryIsKept) {
  Reserving call(*stub_, wish("b", kGiB));
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (reservations_.list().empty() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(1ms);
  EXPECT_FALSE(call.done()) << "nothing has been decided yet";
  ticker_->tick();
  ASSERT_TRUE(call.wait().ok()) << call.wait().error_message();
  EXPECT_EQ(call.reservation().granted_bytes(), kGiB.count());
  EXPECT_EQ(call.reservation().state(), v1::RESERVATION_STATE_GRANTED);
  ticker_->tick();
  EXPECT_EQ(states_.newest()->reserved, kGiB);

  grpc::ClientContext list;
  v1::ListReservationsResponse all;
  ASSERT_TRUE(stub_->ListReservations(&list, {}, &all).ok());
  ASSERT_EQ(all.reservations_size(), 1);
  EXPECT_TRUE(all.reservations(0).has_lease_until());

  EXPECT_EQ(all.reservations(0).token(), "") << "that is for who reserved it";

  Reserving same(*stub_, wish("b", kGiB));
  EXPECT_EQ(same.wait().error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_TRUE(same.wait().error_message().find("sends the same request_id") != std::string::npos)
      << same.wait().error_message();

  v1::ReleaseReservationRequest release;
  release.set_id("b");
  v1::ReleaseReservationResponse released;
  const auto code = [&] {
    grpc::ClientContext context;
    return stub_->ReleaseReservation(&context, release, &released).error_code();
  };
  EXPECT_EQ(code(), grpc::StatusCode::PERMISSION_DENIED);
  release.set_token(call.reservation().token());
  EXPECT_EQ(code(), grpc::StatusCode::OK);
  EXPECT_EQ(code(), grpc::StatusCode::OK) << "again is no error";
  release.set_id("c");
  EXPECT_EQ(code(), grpc::StatusCode::NOT_FOUND);
  ticker_->tick();
  EXPECT_EQ(states_.newest()->reserved, Bytes{0});
}

TEST_F(ApiTest, ADetachedReservationIsAnsweredAtOnceAndFollowedWithoutWaiting) {
  v1::ReserveRequest request = wish("b", kGiB);
  request.set_detached(true);
  request.set_owner("nova");
  const auto state = [this] {
    grpc::ClientContext context;
    v1::GetReservationRequest get;
    get.set_id("b");
    v1::GetReservationResponse response;
    EXPECT_TRUE(stub_->GetReservation(&context, get, &response).ok());
    return response.reservation().state();
  };
  Reserving call(*stub_, request);
  ASSERT_TRUE(call.wait().ok()) << "nothing has been decided yet";
  EXPECT_EQ(state(), v1::RESERVATION_STATE_PENDING);
  ticker_->tick();
  EXPECT_EQ(state(), v1::RESERVATION_STATE_GRANTED);

  v1::CommitReservationRequest commit;
  commit.set_id("b");
  v1::CommitReservationResponse committed;
  grpc::ClientContext stranger;
  const auto refused = stub_->CommitReservation(&stranger, commit, &committed);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(refused.error_message().starts_with("reservation b is nova's")) << refused.error_message();
  commit.set_token(call.reservation().token());
  grpc::ClientContext owner;
  ASSERT_TRUE(stub_->CommitReservation(&owner, commit, &committed).ok());
  EXPECT_EQ(committed.reservation().state(), v1::RESERVATION_STATE_COMMITTED);
  EXPECT_EQ(state(), v1::RESERVATION_STATE_COMMITTED);

  v1::ReleaseReservationRequest release;
  release.set_id("b");
  release.set_force(true);
  v1::ReleaseReservationResponse released;
  grpc::ClientContext forced;
  EXPECT_TRUE(stub_->ReleaseReservation(&forced, release, &released).ok()) << "these tests are operators";
  EXPECT_EQ(state(), v1::RESERVATION_STATE_RELEASED);
}

TEST_F(ApiTest, AReservationThatTheHostCannotHoldIsRefusedWithTheReason) {
  Reserving call(*stub_, wish("b", 64 * kGiB));
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (reservations_.list().empty() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(1ms);
  ticker_->tick();
  EXPECT_EQ(call.wait().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(call.wait().error_message().starts_with("the host cannot hold 64 GiB: of the "))
      << call.wait().error_message();
  EXPECT_TRUE(reservations_.list().empty());
}

TEST_F(ApiTest, ACallerThatGoesAwayWithdrawsWhatIsNotGrantedYet) {
  Reserving call(*stub_, wish("b", kGiB));
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (reservations_.list().empty() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(1ms);
  ASSERT_EQ(reservations_.list().size(), 1U);
  call.cancel();
  EXPECT_EQ(call.wait().error_code(), grpc::StatusCode::CANCELLED);
  while (!reservations_.list().empty() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(reservations_.list().empty());
}

TEST_F(ApiTest, SetTargetIsValidatedWithCanonicalCodes) {
  join();
  join("huge", 64 * kGiB);
  using Code = grpc::StatusCode;
  EXPECT_EQ(set("nobody", kGiB).error_code(), Code::NOT_FOUND);
  EXPECT_EQ(set("a", 255 * kMiB).error_code(), Code::INVALID_ARGUMENT);
  EXPECT_EQ(set("a", 3 * kGiB).error_code(), Code::INVALID_ARGUMENT);
  EXPECT_EQ(set("a", kGiB, 0).error_code(), Code::INVALID_ARGUMENT);
  EXPECT_EQ(set("a", kGiB, -1).error_code(), Code::INVALID_ARGUMENT);
  EXPECT_EQ(set("a", kGiB, 24 * 3600 + 1).error_code(), Code::INVALID_ARGUMENT);
  EXPECT_EQ(set("a", kGiB, std::numeric_limits<std::int64_t>::max()).error_code(), Code::INVALID_ARGUMENT);
  EXPECT_EQ(set("huge", 64 * kGiB).error_code(), Code::FAILED_PRECONDITION);
  EXPECT_TRUE(set("a", kGiB, 24 * 3600).ok());
  EXPECT_TRUE(set("a", kGiB).ok());
  EXPECT_EQ(guests_.find("a")->pin->expires, clock_.now() + 10min);
}

TEST_F(ApiTest, ThePinIsInTheAnswerAndClearingEndsIt) {
  join();
  grpc::ClientContext set_context;
  v1::SetTargetRequest request;
  request.set_name("a");
  request.set_target_bytes((kGiB + Bytes{1}).count());
  v1::SetTargetResponse response;
  ASSERT_TRUE(stub_->SetTarget(&set_context, request, &response).ok());
  EXPECT_TRUE(response.guest().has_pinned_until());
  EXPECT_EQ(guests_.find("a")->pin->target, kGiB) << "whole pages";
  for (int i = 0; i < 2; ++i) {  // ending no pin is no error
    grpc::ClientContext clear_context;
    v1::ClearTargetRequest clear;
    clear.set_name("a");
    v1::ClearTargetResponse cleared;
    ASSERT_TRUE(stub_->ClearTarget(&clear_context, clear, &cleared).ok());
    EXPECT_FALSE(cleared.guest().has_pinned_until());
  }
}

TEST_F(ApiTest, AWatchBeginsWithTheNewestStateAndASlowReaderMissesOldOnes) {
  join();
  grpc::ClientContext context;
  const auto stream = stub_->WatchGuests(&context, {});
  v1::WatchGuestsResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.revision(), 1U);
  EXPECT_EQ(response.guests_size(), 1);
  constexpr std::uint64_t kTicks = 10'000;  // far more than the stream's buffers hold
  for (std::uint64_t i = 0; i < kTicks; ++i) ticker_->tick();
  std::uint64_t read = 0;
  while (response.revision() < kTicks + 1 && stream->Read(&response)) ++read;
  EXPECT_EQ(response.revision(), kTicks + 1);
  EXPECT_LT(read, kTicks) << "every state was kept for a reader that did not read";
  context.TryCancel();
}

TEST_F(ApiTest, HealthFollowsTheLoop) {
  using grpc::health::v1::HealthCheckResponse;
  grpc::ClientContext context;
  const auto stream = health_->Watch(&context, {});
  HealthCheckResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  serving_ = false;
  server_->health().refresh();
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  grpc::ClientContext check_context;
  ASSERT_TRUE(health_->Check(&check_context, {}, &response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
}

TEST_F(ApiTest, TheServerStopsThoughStreamsAreOpen) {
  join();
  grpc::ClientContext context;
  const auto stream = stub_->WatchGuests(&context, {});
  v1::WatchGuestsResponse response;
  ASSERT_TRUE(stream->Read(&response));
  const auto begin = std::chrono::steady_clock::now();
  server_->stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  EXPECT_FALSE(stream->Read(&response));
}

TEST(UnixSocketTest, ASocketThatIsServedIsRefusedAndAStaleOneReplaced) {
  const test::FakeTree tree;
  const std::string path = tree.root() + "/socket";
  {
    const auto first = UnixSocket::listen(path, 0600, "");
    ASSERT_TRUE(first) << first.error().message;
    const auto second = UnixSocket::listen(path, 0600, "");
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find("is already served by process " + std::to_string(::getpid())),
              std::string::npos)
        << second.error().message;
  }
  EXPECT_FALSE(std::filesystem::exists(path)) << "the socket file goes with the socket";
  EXPECT_FALSE(UnixSocket::listen("/tmp/" + std::string(110, 'x'), 0600, ""));
}

TEST_F(ApiTest, WhatGuestsNeededIsListedAndOfOneDayByDay) {
  join();
  State state;
  GuestStatus guest;
  guest.record.name = "a";
  guest.record.connected = true;
  guest.plan.need = kGiB;
  guest.plan.why.source = policy::Source::statistics;
  state.guests = {guest};
  for (int i = 0; i < 3; ++i) {
    clock_.advance(std::chrono::seconds(30));
    state.at = clock_.now();
    state.wall = clock_.wall();
    needs_.observe(state);
  }
  needs_.renew();
  const auto list = [&](const std::string& name, v1::ListNeedsResponse& response) {
    grpc::ClientContext context;
    v1::ListNeedsRequest request;
    if (!name.empty()) request.set_name(name);
    return stub_->ListNeeds(&context, request, &response);
  };
  v1::ListNeedsResponse all, one, none;
  ASSERT_TRUE(list("", all).ok());
  ASSERT_EQ(all.guests_size(), 1);
  EXPECT_EQ(all.guests(0).memory_bytes(), (2 * kGiB).count());
  EXPECT_EQ(all.guests(0).day().p95_bytes(), kGiB.count());
  EXPECT_EQ(all.guests(0).month().observed().seconds(), 60);
  EXPECT_EQ(all.guests(0).days_size(), 0);
  ASSERT_TRUE(list("a", one).ok());
  ASSERT_EQ(one.guests(0).days_size(), 1);
  EXPECT_EQ(one.guests(0).days(0).needs().max_bytes(), kGiB.count());
  EXPECT_EQ(list("nobody", none).error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace balloon::daemon
