// Peers that do their worst: they stop, they say nothing, they come in thousands.
#include <fcntl.h>
#include <grpcpp/create_channel.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "balloon/v1/scheduler.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

using std::chrono::seconds;

/// A connection that says nothing.
int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    if (errno != EAGAIN) break;  // the queue of the listening socket is full
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ::close(fd);
  return -1;
}

class Flood {
 public:
  Flood(const std::string& path, int count) {
    for (int i = 0; i < count; ++i) fds_.push_back(connect_to(path));
  }
  ~Flood() {
    for (const int fd : fds_) ::close(fd);
  }
  Flood(const Flood&) = delete;
  Flood& operator=(const Flood&) = delete;

  /// How many the daemon has not ended. Its settings, which gRPC sends first, are read.
  int up() const {
    int count = 0;
    for (const int fd : fds_) {
      std::array<char, 4096> part{};
      ssize_t size = 0;
      while ((size = ::read(fd, part.data(), part.size())) > 0) {
      }
      if (size < 0 && errno == EAGAIN) ++count;
    }
    return count;
  }

 private:
  std::vector<int> fds_;
};

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

}  // namespace
}  // namespace balloon::test
