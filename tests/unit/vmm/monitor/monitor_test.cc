// SPDX-License-Identifier: Apache-2.0
// The monitor at its socket.
#include "vmm/monitor/monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "tests/unit/vmm/monitor/fake_guest.h"

namespace balloon::vmm::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// A client that reads line by line.
class Client {
 public:
  explicit Client(const std::string& path, bool handshake = true)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    connected = ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    first = line();
    if (handshake) ask(R"({"execute":"qmp_capabilities"})");
  }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  /// The next line; empty at the connection's end, or after `patience`.
  std::string line(int patience_ms = 20'000) {
    while (received_.find('\n') == std::string::npos) {
      pollfd poll{.fd = fd_.get(), .events = POLLIN, .revents = 0};
      std::array<char, 4096> buffer{};
      if (::poll(&poll, 1, patience_ms) <= 0) return {};
      const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (count <= 0) return {};
      received_.append(buffer.data(), static_cast<std::size_t>(count));
    }
    const std::size_t end = received_.find('\n') + 1;
    std::string text = received_.substr(0, end);
    received_.erase(0, end);
    return text;
  }
  json next() { return json::parse(line(), nullptr, false); }
  json ask(std::string_view request) {
    send(request);
    return next();
  }
  bool hung_up() {
    while (!line(5'000).empty()) continue;
    std::byte byte{};
    return ::recv(fd_.get(), &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
  }

  bool connected = false;
  std::string first;

 private:
  UniqueFd fd_;
  std::string received_;
};

class MonitorTest : public testing::Test {
 protected:
  MonitorTest() {
    std::filesystem::create_directories(directory);
    auto started = Monitor::start(path, guest);
    EXPECT_TRUE(started) << started.error().message;
    if (started) monitor = std::move(*started);
  }
  ~MonitorTest() override {
    monitor.reset();
    std::filesystem::remove_all(directory);
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("monitor-test-" + std::to_string(::getpid()));
  std::string path = directory / "qmp";
  FakeGuest guest;
  std::unique_ptr<Monitor> monitor;
};

TEST_F(MonitorTest, AClientIsGreetedAndAnswered) {
  Client client(path);
  EXPECT_THAT(client.first, HasSubstr("\"QMP\""));
  EXPECT_EQ(client.ask(R"({"execute":"query-balloon"})"), json::parse(R"({"return":{"actual":536870912}})"));
}

TEST_F(MonitorTest, OnlyTheVmmsUserMayConnectAndTheSocketGoesWithTheMonitor) {
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  monitor.reset();
  EXPECT_NE(::stat(path.c_str(), &status), 0);
}

TEST_F(MonitorTest, ASecondMonitorAtTheSamePathIsRefused) {
  const auto second = Monitor::start(path, guest);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("already served"));
}

TEST_F(MonitorTest, WhileAClientWaitsForASnapshotOthersAreAnswered) {
  constexpr std::string_view kSnapshot =
      R"({"execute":"snapshot-to-file","arguments":{"path":"/slow"},"id":1})";
  Client saving(path), asking(path);
  saving.send(kSnapshot);
  saving.send(R"({"execute":"query-name","id":2})");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(asking.ask(R"({"execute":"query-status"})").contains("return"));
  Client late(path);
  EXPECT_THAT(late.first, HasSubstr("QMP"));
  EXPECT_EQ(saving.line(50), "") << "answers come in the order of the requests";
  guest.slow.count_down();
  EXPECT_EQ(saving.next()["id"], 1);
  EXPECT_EQ(saving.next()["id"], 2);
  EXPECT_TRUE(saving.ask(R"({"execute":"query-status"})").contains("return"));
}

TEST_F(MonitorTest, AClientThatLeavesBeforeItsSnapshotIsWrittenHarmsNobody) {
  {
    Client saving(path);
    saving.send(R"({"execute":"snapshot-to-file","arguments":{"path":"/slow"}})");
    saving.send(R"({"execute":"query-name"})");
  }
  Client asking(path);
  EXPECT_TRUE(asking.ask(R"({"execute":"query-status"})").contains("return"));
  guest.slow.count_down();
  EXPECT_TRUE(asking.ask(R"({"execute":"stop"})").contains("event")) << "behind the snapshot";
}

TEST_F(MonitorTest, EventsReachAllClientsThatFinishedTheHandshake) {
  Client one(path);
  Client two(path);
  Client silent(path, /*handshake=*/false);
  // The event comes before the answer to the command that caused it, as in QEMU: a client that has its answer
  // need not wait for more.
  EXPECT_EQ(one.ask(R"({"execute":"stop"})")["event"], "STOP");
  EXPECT_EQ(one.next()["return"], json::object());
  EXPECT_EQ(two.next()["event"], "STOP");
  EXPECT_EQ(silent.line(200), "");
}

TEST_F(MonitorTest, BalloonChangesAreLimitedToOneASecondAndTheLastValueComes) {
  Client client(path);
  for (std::uint64_t actual = 500; actual > 100; --actual) {
    guest.tell({.kind = MonitorEvent::Kind::balloon_change, .actual = Bytes{actual}});
  }
  std::vector<std::uint64_t> seen;
  do {
    const json event = client.next();
    ASSERT_EQ(event.value("event", ""), "BALLOON_CHANGE") << event;
    seen.push_back(event["data"]["actual"]);
  } while (seen.back() != 101);
  EXPECT_LE(seen.size(), 3U);
}

TEST_F(MonitorTest, ARequestWithoutEndIsRefusedAndTheClientHungUpOn) {
  Client client(path);
  client.send("{\"execute\":\"" + std::string(JsonFrames::kMaxBytes, 'x'));
  EXPECT_THAT(client.line(), HasSubstr("more than 262144 bytes"));
  EXPECT_TRUE(client.hung_up());
  EXPECT_TRUE(Client(path).connected);
}

TEST_F(MonitorTest, ANestingBombIsRefusedAndTheClientHungUpOn) {
  Client client(path);
  client.send(std::string(100'000, '['));
  EXPECT_THAT(client.line(), HasSubstr("nested more than"));
  EXPECT_TRUE(client.hung_up());
}

TEST_F(MonitorTest, AClientThatNeverReadsIsHungUpOnAndOthersAreServed) {
  Client deaf(path);
  const std::string request = R"({"execute":"query-commands"})";
  bool cut = false;
  for (int i = 0; i < 20'000 && !cut; ++i) cut = !deaf.send(request);
  EXPECT_TRUE(cut);
  EXPECT_EQ(Client(path).ask(R"({"execute":"query-name"})")["return"]["name"], "web-1");
}

TEST_F(MonitorTest, MoreClientsThanItTakesAreToldSo) {
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < Monitor::kMaxClients; ++i) clients.push_back(std::make_unique<Client>(path));
  Client late(path, /*handshake=*/false);
  EXPECT_THAT(late.first, HasSubstr("as many clients as it takes"));
  clients.pop_back();
  // The place is free once the monitor has seen the hang-up.
  bool served = false;
  for (int i = 0; i < 100 && !served; ++i)
    served = Client(path, false).first.find("QMP") != std::string::npos;
  EXPECT_TRUE(served);
}

TEST_F(MonitorTest, ClientsThatSayNothingKeepNobodyOut) {
  std::vector<std::unique_ptr<Client>> silent;
  for (std::size_t i = 0; i < 3 * Monitor::kMaxClients; ++i)
    silent.push_back(std::make_unique<Client>(path, /*handshake=*/false));
  EXPECT_EQ(Client(path).ask(R"({"execute":"query-name"})")["return"]["name"], "web-1");
  EXPECT_TRUE(silent.front()->hung_up()) << "the first one had to go";
  EXPECT_EQ(silent.back()->ask(R"({"execute":"qmp_capabilities"})")["return"], json::object())
      << "the last one may stay";
}

TEST_F(MonitorTest, ClientsThatComeAndGoLeaveNothing) {
  for (int i = 0; i < 200; ++i) {
    Client client(path, /*handshake=*/false);
    client.send("{\"execute\":");
  }
  EXPECT_EQ(Client(path).ask(R"({"execute":"query-name"})")["return"]["name"], "web-1");
}

}  // namespace
}  // namespace balloon::vmm::test
