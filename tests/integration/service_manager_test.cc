// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdlib>

#include "base/unique_fd.h"
#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

/// What systemd is to a service: a socket that is told things, named in the environment.
class ServiceManagerTest : public DaemonTest {
 protected:
  void SetUp() override {
    const std::string path = directory_.file("notify");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(manager_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    ::setenv("WATCHDOG_USEC", "2000000", 1);
    ::unsetenv("WATCHDOG_PID");
    DaemonTest::SetUp();
  }
  void TearDown() override {
    ::unsetenv("NOTIFY_SOCKET");
    ::unsetenv("WATCHDOG_USEC");
  }

  /// Whether it is told `text` within that time; what comes before it is forgotten.
  bool is_told(const std::string& text, int milliseconds = 60'000) const {
    std::array<char, 4096> buffer{};
    pollfd poll{.fd = manager_.get(), .events = POLLIN, .revents = 0};
    while (::poll(&poll, 1, milliseconds) == 1) {
      const ssize_t count = ::recv(manager_.get(), buffer.data(), buffer.size(), 0);
      if (count > 0 &&
          std::string(buffer.data(), static_cast<std::size_t>(count)).find(text) != std::string::npos)
        return true;
    }
    return false;
  }

  UniqueFd manager_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

TEST_F(ServiceManagerTest, ADaemonThatServesIsReadyAndLivesForAsLongAsItDecides) {
  EXPECT_TRUE(is_told("READY=1\nSTATUS=serving on " + socket()));
  EXPECT_TRUE(is_told("WATCHDOG=1"));
  EXPECT_TRUE(is_told("WATCHDOG=1")) << "again and again";
}

TEST_F(ServiceManagerTest, AStoppedDaemonGivesNoSignOfLife) {
  ASSERT_TRUE(is_told("WATCHDOG=1"));
  ASSERT_TRUE(daemon_->stop());
  while (is_told("", 0)) {  // what it said before
  }
  EXPECT_FALSE(is_told("WATCHDOG=1", 2'000));
  daemon_->signal(SIGCONT);
  EXPECT_TRUE(is_told("WATCHDOG=1"));
}

TEST_F(ServiceManagerTest, AReloadAndTheEndAreTold) {
  ASSERT_TRUE(is_told("READY=1"));
  daemon_->signal(SIGHUP);
  EXPECT_TRUE(is_told("RELOADING=1\nMONOTONIC_USEC="));
  EXPECT_TRUE(is_told("READY=1"));
  daemon_->signal(SIGTERM);
  EXPECT_TRUE(is_told("STOPPING=1"));
  EXPECT_EQ(daemon_->wait(), 0);
}

TEST_F(ServiceManagerTest, ALongPeriodAsksTheWatchdogForTime) {
  daemon_->signal(SIGTERM);
  ASSERT_EQ(daemon_->wait(), 0);
  directory_.write("balloond.yaml",
                   "socket: {path: " + socket() + "}\ncontrol: {period: 60s}\npolicy: policy.yaml\n");
  daemon_ = std::make_unique<Background>(
      std::vector<std::string>{BALLOOND, "--config", directory_.file("balloond.yaml")},
      directory_.file("log"));
  EXPECT_TRUE(is_told("WATCHDOG_USEC=300000000"));
}

}  // namespace
}  // namespace balloon::test
