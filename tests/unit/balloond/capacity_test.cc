// SPDX-License-Identifier: Apache-2.0
// CapacityService by the real server: figures that add up, and answers that have no effect.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include "balloon/v1/capacity.grpc.pb.h"
#include "balloond/api/server.h"
#include "balloond/control/tick.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

class CapacityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tree_.host("8388608", "7340032");
    tree_.process(42, "1024");
    host_.emplace(tree_.root());
    ticker_.emplace(clock_, guests_, *host_, states_, policy::rules::PolicyFile(), nullptr, &reservations_);
    auto socket = UnixSocket::listen(path_, 0600, "");
    ASSERT_TRUE(socket) << socket.error().message;
    server_.emplace(Entrance{.socket = std::move(*socket)}, clock_, guests_, states_, reservations_, pins_,
                    control_, needs_, calls_, [] { return true; });
    ASSERT_TRUE(server_->start());
    stub_ = v1::CapacityService::NewStub(
        grpc::CreateChannel("unix:" + path_, grpc::InsecureChannelCredentials()));
  }
  grpc::Status capacity(v1::Capacity& out) {
    grpc::ClientContext context;
    v1::GetCapacityResponse response;
    grpc::Status status = stub_->GetCapacity(&context, {}, &response);
    out = response.capacity();
    return status;
  }
  grpc::Status fit(const v1::CheckFitRequest& request, v1::CheckFitResponse& response) {
    grpc::ClientContext context;
    return stub_->CheckFit(&context, request, &response);
  }
  void join(const std::string& name) {
    ASSERT_TRUE(guests_.joined(test::registration(name, 2 * kGiB, kGiB), {.pid = 42, .uid = 0},
                               std::make_shared<test::FakeChannel>()));
  }

  test::FakeTree tree_;
  const std::string path_ = tree_.root() + "/socket";
  test::FakeClock clock_;
  StateStore states_;
  Registry guests_{clock_, tree_.root()};
  ReservationBook reservations_{clock_};
  ControlSwitch control_{clock_};
  PinKeeper pins_{guests_};
  CallCounters calls_;
  NeedHistory needs_{clock_};
  std::optional<HostSampler> host_;
  std::optional<Ticker> ticker_;
  std::optional<Server> server_;
  std::unique_ptr<v1::CapacityService::Stub> stub_;
};

TEST_F(CapacityTest, ItIsUnavailableUntilSomethingHasBeenDecided) {
  v1::Capacity out;
  EXPECT_EQ(capacity(out).error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::CheckFitResponse response;
  EXPECT_EQ(fit({}, response).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(CapacityTest, ItsFiguresAreThoseOfTheNewestDecisionAndAddUp) {
  join("a");
  ticker_->tick();
  v1::Capacity before;
  ASSERT_TRUE(capacity(before).ok());
  EXPECT_EQ(before.host_id().size(), 32U);
  EXPECT_EQ(before.generation().epoch(), states_.epoch());
  EXPECT_EQ(before.generation().revision(), states_.newest()->revision);
  EXPECT_EQ(before.total_bytes(), (8 * kGiB).count());
  EXPECT_EQ(before.guests(), 1U);
  EXPECT_EQ(before.committed_bytes(), kGiB.count());
  EXPECT_LE(before.free_bytes() + before.committed_bytes(), before.budget_bytes());
  EXPECT_LE(before.largest_bytes() + before.floor_bytes(), before.budget_bytes());

  ASSERT_TRUE(reservations_.ask({.id = "b",
                                 .min = kGiB,
                                 .max = kGiB,
                                 .within = std::chrono::seconds(30),
                                 .lease = std::chrono::seconds(60),
                                 .detached = true},
                                nullptr, nullptr));
  ticker_->tick();
  ticker_->tick();
  v1::Capacity after;
  ASSERT_TRUE(capacity(after).ok());
  EXPECT_EQ(after.reserved_bytes(), kGiB.count());
  EXPECT_EQ(after.reservations(), 1U);
  EXPECT_EQ(after.free_bytes() + kGiB.count(), before.free_bytes()) << "what is kept is not free";
  EXPECT_EQ(after.largest_bytes() + kGiB.count(), before.largest_bytes());
}

TEST_F(CapacityTest, ManySizesAreAnsweredAtOnceEachAsIfItWereTheOnlyOneAndWithoutEffect) {
  ticker_->tick();
  v1::CheckFitRequest request;
  for (const policy::Bytes size : {kGiB, 5 * kGiB, 64 * kGiB})
    request.add_queries()->set_min_bytes(size.count());
  v1::CheckFitResponse response;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(fit(request, response).ok());
    ASSERT_EQ(response.answers_size(), 3);
    EXPECT_EQ(response.answers(0).fit(), v1::FIT_NOW);
    EXPECT_EQ(response.answers(1).fit(), v1::FIT_NOW);
    EXPECT_EQ(response.answers(2).fit(), v1::FIT_NO);
    EXPECT_TRUE(response.answers(2).reason().starts_with("the host cannot hold it"))
        << response.answers(2).reason();
    ticker_->tick();
  }
  EXPECT_TRUE(reservations_.list().empty());
  EXPECT_EQ(states_.newest()->reserved, Bytes{0});
}

TEST_F(CapacityTest, WhatReserveWouldNotTakeIsRefusedByItsPlace) {
  ticker_->tick();
  v1::CheckFitRequest request;
  request.add_queries()->set_min_bytes(kGiB.count());
  request.add_queries()->set_min_bytes(0);
  v1::CheckFitResponse response;
  const auto status = fit(request, response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(status.error_message().starts_with("query 1: ")) << status.error_message();
  v1::CheckFitRequest many;
  for (int i = 0; i < 257; ++i) many.add_queries()->set_min_bytes(kMiB.count());
  EXPECT_EQ(fit(many, response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(CapacityTest, PolicyBoundsTheBootMemoryOfGuestsToBe) {
  join("a");  // of 2 GiB, on a host of 8
  policy::rules::PolicyFile policy;
  policy.ram_allocation_ratio = 0.5;
  ticker_->set_policy(policy);
  ticker_->tick();
  v1::Capacity out;
  ASSERT_TRUE(capacity(out).ok());
  EXPECT_EQ(out.boot_memory_free_bytes(), (2 * kGiB).count());
  v1::CheckFitRequest request;
  request.add_queries()->set_min_bytes(kGiB.count());
  request.mutable_queries(0)->set_max_bytes((3 * kGiB).count());
  request.add_queries()->set_min_bytes(kGiB.count());
  v1::CheckFitResponse response;
  ASSERT_TRUE(fit(request, response).ok());
  EXPECT_EQ(response.answers(0).fit(), v1::FIT_NO);
  EXPECT_EQ(response.answers(0).reason(),
            "policy (admission.ram_allocation_ratio) leaves 2 GiB of boot memory for guests to be");
  EXPECT_EQ(response.answers(1).fit(), v1::FIT_NOW);
}

}  // namespace
}  // namespace balloon::daemon
