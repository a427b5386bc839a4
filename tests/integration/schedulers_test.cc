// SPDX-License-Identifier: Apache-2.0
// Two schedulers on a daemon that is killed again and again: nothing is granted twice, lost or kept for
// nobody. BALLOON_SCHEDULER_ROUNDS: how many rounds (scripts/nightly.sh: 500).
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <signal.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "balloon/v1/capacity.grpc.pb.h"
#include "balloon/v1/scheduler.grpc.pb.h"
#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

using namespace std::chrono_literals;

constexpr int kRoundsBetweenKills = 20;
constexpr std::uint64_t kSize = 64 * kMiB;

/// One of them: in each round it reserves, extends or commits, and releases, and asks again for whatever a
/// kill kept it from hearing.
class Scheduler {
 public:
  Scheduler(const std::string& socket, int number) : number_(number), random_(static_cast<unsigned>(number)) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    stub_ = v1::SchedulerService::NewStub(
        grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments));
  }

  /// Both want the same ids: who comes second is told so.
  void round(int which) {
    v1::ReserveRequest request;
    request.set_id("guest-" + std::to_string(which % 3));
    request.set_min_bytes(kSize);
    request.set_request_id("scheduler " + std::to_string(number_) + ", round " + std::to_string(which));
    v1::ReserveResponse reserved;
    const grpc::Status status = until_answered(
        [&](grpc::ClientContext& context) { return stub_->Reserve(&context, request, &reserved); });
    if (status.error_code() == grpc::StatusCode::ALREADY_EXISTS) return;
    ASSERT_TRUE(status.ok()) << status.error_code() << ": " << status.error_message();
    ++grants_;
    const std::string token = reserved.reservation().token();
    if (random_() % 2 == 0) same_again(request, token);
    renew(request.id(), token);
    release(request.id(), token);
    EXPECT_EQ(until_answered([&](grpc::ClientContext& context) {
                return stub_->Reserve(&context, request, &reserved);
              }).error_code(),
              grpc::StatusCode::ABORTED)
        << "a late retry of " << request.request_id();
  }
  int grants() const { return grants_; }

 private:
  /// What a daemon that was killed did not answer is asked again.
  grpc::Status until_answered(const std::function<grpc::Status(grpc::ClientContext&)>& call) {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (true) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + 30s);
      context.set_wait_for_ready(true);
      grpc::Status status = call(context);
      if (status.error_code() != grpc::StatusCode::UNAVAILABLE || std::chrono::steady_clock::now() > end)
        return status;
    }
  }
  void same_again(const v1::ReserveRequest& request, const std::string& token) {
    v1::ReserveResponse again;
    const auto status = until_answered(
        [&](grpc::ClientContext& context) { return stub_->Reserve(&context, request, &again); });
    EXPECT_TRUE(status.ok()) << "lost: " << status.error_message();
    EXPECT_EQ(again.reservation().token(), token) << "granted twice";
  }
  void renew(const std::string& id, const std::string& token) {
    grpc::Status status;
    if (random_() % 2 == 0) {
      v1::ExtendReservationRequest extend;
      extend.set_id(id);
      extend.set_token(token);
      v1::ExtendReservationResponse extended;
      status = until_answered([&](grpc::ClientContext& context) {
        return stub_->ExtendReservation(&context, extend, &extended);
      });
    } else {
      v1::CommitReservationRequest commit;
      commit.set_id(id);
      commit.set_token(token);
      v1::CommitReservationResponse committed;
      status = until_answered([&](grpc::ClientContext& context) {
        return stub_->CommitReservation(&context, commit, &committed);
      });
    }
    EXPECT_TRUE(status.ok()) << "lost: " << status.error_message();
  }
  void release(const std::string& id, const std::string& token) {
    v1::ReleaseReservationRequest request;
    request.set_id(id);
    request.set_token(token);
    v1::ReleaseReservationResponse released;
    const auto status = until_answered([&](grpc::ClientContext& context) {
      return stub_->ReleaseReservation(&context, request, &released);
    });
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  const int number_;
  std::mt19937 random_;
  std::unique_ptr<v1::SchedulerService::Stub> stub_;
  int grants_ = 0;
};

class SchedulersTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    start_again();
  }
  void start_again() { start("reservations: {file: " + directory_.file("reservations.json") + "}\n"); }
};

TEST_F(SchedulersTest, NothingIsGrantedTwiceLostOrKeptForNobodyThoughTheDaemonIsKilledAgainAndAgain) {
  const char* const wanted = std::getenv("BALLOON_SCHEDULER_ROUNDS");
  const int rounds = wanted == nullptr ? 50 : std::atoi(wanted);
  ASSERT_GT(rounds, 0);
  Scheduler one(socket(), 1);
  Scheduler two(socket(), 2);
  std::atomic<int> made{0};
  std::atomic<int> at_work{2};
  const auto work = [&](Scheduler& scheduler) {
    for (int i = 0; i < rounds && !HasFatalFailure(); ++i) {
      scheduler.round(i);
      ++made;
    }
    --at_work;
  };
  std::thread first([&] { work(one); });
  std::thread second([&] { work(two); });
  int kills = 0;
  while (at_work > 0) {
    if (made >= kRoundsBetweenKills * (kills + 1)) {
      ++kills;
      daemon_->signal(SIGKILL);
      ASSERT_EQ(daemon_->wait(), 128 + SIGKILL);
      start_again();
    }
    std::this_thread::sleep_for(5ms);
  }
  first.join();
  second.join();
  EXPECT_GT(one.grants(), 0);
  EXPECT_GT(two.grants(), 0);
  EXPECT_GE(kills, 2 * rounds / kRoundsBetweenKills - 1);
  EXPECT_TRUE(ctl_json({"reservations"}).at("reservations").empty()) << "all was released";
  EXPECT_TRUE(eventually([&] { return ctl_json({"capacity"}).at("reserved_bytes") == 0; }));
}

TEST_F(SchedulersTest, WhatFitsIsToldWithoutEffectAndReserveIsAnsweredTheSame) {
  const FakeVmm vmm(socket(), FakeVmm::guest("web", kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return state_of("web") != ""; }));
  const auto capacity = ctl_json({"capacity"});
  EXPECT_EQ(capacity.at("host_id").get<std::string>().size(), 32U);
  EXPECT_EQ(capacity.at("guests"), 1);
  EXPECT_LE(capacity.at("free_bytes"), capacity.at("budget_bytes"));
  EXPECT_LE(capacity.at("reclaimable_5s_bytes"), capacity.at("reclaimable_30s_bytes"));
  const Outcome fit = ctl({"fit", "64MiB", "8TiB", "--within", "1h", "-o", "json"});
  EXPECT_EQ(fit.exit_code, 4) << "one of them does not fit";
  const auto answers = nlohmann::json::parse(fit.out).at("answers");
  EXPECT_EQ(answers.at(0).at("fit"), "now");
  EXPECT_EQ(answers.at(1).at("fit"), "no");
  EXPECT_EQ(ctl({"fit", "64MiB"}).exit_code, 0);
  EXPECT_EQ(ctl({"fit", "64MiB", "nonsense"}).exit_code, 2);
  EXPECT_TRUE(ctl_json({"reservations"}).at("reservations").empty());
  EXPECT_EQ(ctl({"reserve", "small", "64MiB"}).exit_code, 0);
  EXPECT_EQ(ctl({"reserve", "large", "8TiB", "--within", "1h"}).exit_code, 4);
  const std::string before = capacity.at("generation").at("epoch");
  EXPECT_EQ(ctl_json({"capacity"}).at("generation").at("epoch"), before);
  daemon_->signal(SIGKILL);
  ASSERT_EQ(daemon_->wait(), 128 + SIGKILL);
  start_again();
  const auto after = ctl_json({"capacity"});
  EXPECT_NE(after.at("generation").at("epoch"), before) << "its revisions are others";
  EXPECT_EQ(after.at("host_id"), capacity.at("host_id")) << "it is the same host";
}

}  // namespace
}  // namespace balloon::test
