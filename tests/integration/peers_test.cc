// SPDX-License-Identifier: Apache-2.0
// Peers that do their worst: they stop, they say nothing, they come in thousands.
#include <grpcpp/create_channel.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "balloon/v1/scheduler.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/integration/daemon_fixture.h"
#include "tests/integration/flood.h"

namespace balloon::test {
namespace {

using std::chrono::seconds;

class StoppedPeersTest : public DaemonTest {
 protected:
  void expect_end() {
    daemon_->signal(SIGTERM);
    EXPECT_EQ(daemon_->wait(), 0) << "it waits for its peer: " << daemon_->log();
  }
};

TEST_F(StoppedPeersTest, TheDaemonEndsWhileAWatcherIsStopped) {
  // What 100 guests say in a second fills the watcher's socket soon.
  std::vector<std::unique_ptr<FakeVmm>> vmms;
  for (int i = 0; i < 100; ++i)
    vmms.push_back(
        std::make_unique<FakeVmm>(socket(), FakeVmm::guest("g" + std::to_string(i), 64 * kMiB, 64 * kMiB)));
  Background watcher({BALLOONCTL, "--socket", socket(), "watch"}, directory_.file("watch"));
  ASSERT_TRUE(eventually([&] { return !watcher.log().empty(); }));
  ASSERT_TRUE(watcher.stop());
  std::this_thread::sleep_for(seconds(5));
  expect_end();
  watcher.signal(SIGCONT);
}

TEST_F(StoppedPeersTest, TheDaemonEndsWhileAWatcherNeverReads) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  const auto channel = grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials());
  const auto scheduler = v1::SchedulerService::NewStub(channel);
  const auto health = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext watch_context;
  const auto watch = scheduler->WatchGuests(&watch_context, {});
  grpc::ClientContext health_context;
  const auto health_watch = health->Watch(&health_context, {});
  std::this_thread::sleep_for(seconds(1));
  expect_end();
  watch_context.TryCancel();
  health_context.TryCancel();
}

TEST_F(StoppedPeersTest, WhoConnectsWhileTheDaemonEndsIsRefusedAtOnce) {
  Background watcher({BALLOONCTL, "--socket", socket(), "watch"}, directory_.file("watch"));
  ASSERT_TRUE(eventually([&] { return !watcher.log().empty(); }));
  daemon_->signal(SIGTERM);
  ASSERT_TRUE(eventually([&] {
    const int fd = connect_to(socket());
    if (fd >= 0) ::close(fd);
    return fd < 0;
  }));
  EXPECT_EQ(daemon_->wait(), 0);
}

TEST_F(DaemonTest, ThousandsOfSilentConnectionsKeepNobodyOut) {
  const Flood flood(socket(), 4000);
  EXPECT_EQ(ctl({"host"}).exit_code, 0) << "an operator";
  Background other({BALLOONCTL, "--socket", socket(), "watch"}, directory_.file("watch"));
  EXPECT_TRUE(eventually([&] { return !other.log().empty(); })) << "another process";
  EXPECT_TRUE(eventually([&] { return flood.up() <= 64; })) << flood.up() << " are left of them";
  EXPECT_TRUE(eventually([&] { return flood.up() == 0; })) << "after ten seconds without a call";
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  })) << "a VMM of that very process";
}

TEST_F(DaemonTest, WhoComesBehindThousandsOfSilentConnectionsIsNotRefused) {
  ASSERT_TRUE(daemon_->stop()) << "it has no CPU for a while";
  const Flood flood(socket(), std::min(4000, longest_queue() - 1));
  const int late = connect_to(socket());
  EXPECT_GE(late, 0) << flood.refused() << " of the others have no place in the queue either";
  daemon_->signal(SIGCONT);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(ctl({"host"}).exit_code, 0) << "an operator";
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
  ::close(late);
}

TEST_F(DaemonTest, AProcessMayHaveMoreGuestsThanConnectionsWithoutOne) {
  std::vector<std::unique_ptr<FakeVmm>> vmms;
  for (int i = 0; i < 150; ++i)
    vmms.push_back(
        std::make_unique<FakeVmm>(socket(), FakeVmm::guest("g" + std::to_string(i), 64 * kMiB, 64 * kMiB)));
  EXPECT_TRUE(eventually([&] { return ctl_json({"list"}).at("guests").size() == 150; })) << ctl({"list"}).out;
}

TEST_F(DaemonTest, AConnectionThatHasCalledMayBeQuiet) {
  const auto channel = grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials());
  const auto scheduler = v1::SchedulerService::NewStub(channel);
  const auto ask = [&] {
    grpc::ClientContext context;
    v1::GetHostResponse response;
    return scheduler->GetHost(&context, {}, &response).ok();
  };
  ASSERT_TRUE(ask());
  std::this_thread::sleep_for(seconds(12));
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
  EXPECT_TRUE(ask());
}

TEST_F(DaemonTest, ASocketThatWasRemovedIsMadeAgain) {
  ASSERT_EQ(::unlink(socket().c_str()), 0);
  EXPECT_TRUE(eventually([&] { return ctl({"host"}).exit_code == 0; }));
  EXPECT_TRUE(logs("had been removed: it is made again")) << daemon_->log();
}

TEST_F(DaemonTest, PinsThatComeAtOnceAreJudgedTogether) {
  const auto host = [&](const char* size) { return ctl_json({"host"}).at(size).get<std::uint64_t>(); };
  // Three guests of a quarter of the host each, of which two fit in its half at most.
  const std::uint64_t half = host("total_bytes") / 2;
  const std::uint64_t free = host("available_bytes");
  if (free > half) {
    write_policy("host: {reserve: " + std::to_string((free - half) / kMiB) + "MiB}\n");
    daemon_->signal(SIGHUP);
    ASSERT_TRUE(eventually([&] { return host("budget_bytes") < half * 11 / 10; }));
  }
  const std::uint64_t size = std::min(free, half) / 2 / kMiB * kMiB;
  std::vector<std::unique_ptr<FakeVmm>> vmms;
  for (const char* name : {"a", "b", "c"}) {
    vmms.push_back(std::make_unique<FakeVmm>(socket(), FakeVmm::guest(name, size, kGiB / 4)));
    vmms.back()->refuse("it stays as it is");  // what it came to hold would count for the budget
  }
  ASSERT_TRUE(eventually([&] { return ctl_json({"list"}).at("guests").size() == 3; }));
  const auto scheduler = v1::SchedulerService::NewStub(
      grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials()));
  std::atomic<int> accepted{0};
  std::vector<std::thread> callers;
  for (const char* name : {"a", "b", "c"}) {
    callers.emplace_back([&, name] {
      grpc::ClientContext context;
      v1::SetTargetRequest request;
      request.set_name(name);
      request.set_target_bytes(size);
      v1::SetTargetResponse response;
      if (scheduler->SetTarget(&context, request, &response).ok()) ++accepted;
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_LE(accepted, 2);
  EXPECT_GE(accepted, 1);
}

TEST_F(DaemonTest, WatchersOfAProcessAreBoundedAndHoldNobodyUp) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  const auto scheduler = v1::SchedulerService::NewStub(
      grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials()));
  ASSERT_TRUE(eventually([&] { return !state_of("a").empty(); }));
  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchGuestsResponse>> reader;
  };
  std::vector<std::unique_ptr<Stream>> streams;
  int refused = 0;
  for (int i = 0; i < 80; ++i) {
    streams.push_back(std::make_unique<Stream>());
    streams.back()->reader = scheduler->WatchGuests(&streams.back()->context, {});
    v1::WatchGuestsResponse first;
    if (streams.back()->reader->Read(&first)) {
      EXPECT_EQ(first.guests_size(), 1);  // and never reads again
      continue;
    }
    EXPECT_EQ(streams.back()->reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    ++refused;
  }
  EXPECT_EQ(refused, 80 - 64);
  Background other({BALLOONCTL, "--socket", socket(), "watch"}, directory_.file("watch"));
  EXPECT_TRUE(eventually([&] { return !other.log().empty(); })) << "another process's watcher";
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  }));
  for (const auto& stream : streams) stream->context.TryCancel();
}

}  // namespace
}  // namespace balloon::test
