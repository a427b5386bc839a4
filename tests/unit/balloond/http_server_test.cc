// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/http_server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "tests/integration/flood.h"
#include "tests/integration/http.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using balloon::test::Flood;
using balloon::test::free_address;
using balloon::test::HalfSent;
using balloon::test::http_connect;
using balloon::test::http_get;
using balloon::test::http_request;
using balloon::test::longest_queue;

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    auto started = HttpServer::start(address_, "/metrics", "text/plain", [this] {
      ++made_;
      return page_;
    });
    EXPECT_TRUE(started) << started.error().message;
    if (started) server_ = std::move(*started);
  }
  std::string ask(const std::string& request) const { return http_request(address_, request); }

  const std::string address_ = free_address();
  std::string page_ = "hello\n";
  std::atomic<int> made_{0};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ThePageComesWithItsLength) {
  EXPECT_EQ(
      ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n");
}

TEST_F(HttpServerTest, OtherPathsAndMethodsAreRefused) {
  EXPECT_TRUE(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
  EXPECT_TRUE(ask("\r\n\r\n").starts_with("HTTP/1.1 405 "));
  EXPECT_TRUE(ask("GET /metrics?name=x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

TEST_F(HttpServerTest, ProbesSayWhetherAndWhatIsWrong) {
  const std::string address = free_address();
  std::string trouble;
  const auto server = HttpServer::start(address, "/metrics", "text/plain", [] { return std::string(); },
                                        {{"/healthz", [&] { return trouble; }}});
  ASSERT_TRUE(server);
  const auto probe = [&] { return http_request(address, "GET /healthz HTTP/1.1\r\n\r\n"); };
  EXPECT_TRUE(probe().starts_with("HTTP/1.1 200 OK\r\n")) << probe();
  EXPECT_TRUE(probe().ends_with("\r\n\r\nok\n")) << probe();
  trouble = "it stands still";
  EXPECT_TRUE(probe().starts_with("HTTP/1.1 503 ")) << probe();
  EXPECT_TRUE(probe().ends_with("\r\n\r\nit stands still\n")) << probe();
  EXPECT_TRUE(http_request(address, "GET /readyz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
}

TEST_F(HttpServerTest, ItListensOnIpv6AndOnUnixSocketsToo) {
  const std::string port = free_address().substr(std::string("127.0.0.1:").size());
  const auto page = [] { return std::string("hello\n"); };
  const auto six = HttpServer::start("[::1]:" + port, "/metrics", "text/plain", page);
  ASSERT_TRUE(six) << six.error().message;
  EXPECT_TRUE(http_request("[::1]:" + port, "GET /metrics HTTP/1.1\r\n\r\n").ends_with("hello\n"));
  const test::FakeTree tree;
  const std::string path = "unix:" + tree.root() + "/metrics.sock";
  const auto local = HttpServer::start(path, "/metrics", "text/plain", page);
  ASSERT_TRUE(local) << local.error().message;
  EXPECT_TRUE(http_request(path, "GET /metrics HTTP/1.1\r\n\r\n").ends_with("hello\n"));
}

TEST_F(HttpServerTest, RequestsThatAreLeftHalfSentHoldNobodyUp) {
  std::vector<HalfSent> others(3 * HttpServer::kConnectionsMax);
  for (HalfSent& other : others) other.open(address_);
  EXPECT_EQ(http_get(address_), "hello\n");
}

TEST_F(HttpServerTest, ThousandsWhoComeWhileAPageIsMadeAreNotRefused) {
  const test::FakeTree tree;
  const std::string path = tree.root() + "/metrics.sock";
  std::promise<void> making;
  std::promise<void> others_are_there;
  auto slow = [&, first = true]() mutable -> std::string {
    if (std::exchange(first, false)) {
      making.set_value();
      others_are_there.get_future().wait();
    }
    return "hello\n";
  };
  const auto server = HttpServer::start("unix:" + path, "/metrics", "text/plain", slow);
  ASSERT_TRUE(server) << server.error().message;
  std::string answer;
  std::thread reader([&] { answer = http_get("unix:" + path); });
  making.get_future().wait();
  {
    const Flood others(path, std::min(4000, longest_queue() - 1));
    EXPECT_EQ(others.refused(), 0);
    others_are_there.set_value();
    EXPECT_EQ(http_get("unix:" + path), "hello\n") << "who comes behind them";
  }
  reader.join();
  EXPECT_EQ(answer, "hello\n");
}

TEST_F(HttpServerTest, ReadersThatDoNotReadHoldNobodyUp) {
  page_ = std::string(8 << 20, 'x');  // more than a socket holds
  std::vector<int> others;
  for (int i = 0; i < 10; ++i) {
    others.push_back(http_connect(address_));
    EXPECT_GT(::write(others.back(), "GET /metrics HTTP/1.0\r\n\r\n", 25), 0);
  }
  EXPECT_EQ(http_get(address_).size(), page_.size());
  for (const int other : others) ::close(other);
}

TEST_F(HttpServerTest, AThousandIdleConnectionsCutNoAnswerShort) {
  page_ = std::string(8 << 20, 'x');  // more than a socket holds
  const int reader = http_connect(address_);
  ASSERT_GT(::write(reader, "GET /metrics HTTP/1.0\r\n\r\n", 25), 0);
  std::array<char, 1 << 16> part{};
  std::size_t got = static_cast<std::size_t>(::read(reader, part.data(), 1));  // it is being answered
  std::vector<int> others;
  for (int i = 0; i < 1000; ++i) others.push_back(http_connect(address_));
  for (ssize_t count = 0; (count = ::read(reader, part.data(), part.size())) > 0;)
    got += static_cast<std::size_t>(count);
  EXPECT_GT(got, page_.size());
  EXPECT_EQ(http_get(address_).size(), page_.size()) << "and who comes later is answered, too";
  for (const int other : others) ::close(other);
  ::close(reader);
}

TEST_F(HttpServerTest, ReadersThatDoNotReadLeaveRoomForNewcomers) {
  page_ = std::string(4 << 20, 'x');
  std::vector<int> others;
  for (std::size_t i = 0; i < HttpServer::kConnectionsMax / 2 + 8; ++i) {
    others.push_back(http_connect(address_));
    EXPECT_GT(::write(others.back(), "GET /metrics HTTP/1.0\r\n\r\n", 25), 0);
  }
  std::vector<HalfSent> half(HttpServer::kConnectionsMax);
  for (HalfSent& other : half) other.open(address_);
  EXPECT_EQ(http_get(address_).size(), page_.size());
  for (const int other : others) ::close(other);
}

TEST_F(HttpServerTest, ARequestThatComesByteByByteHoldsNobodyUp) {
  const int slow = http_connect(address_);
  const std::string request = "GET /metrics HTTP/1.1\r\n\r\n";
  for (const char byte : request) {
    ASSERT_EQ(::write(slow, &byte, 1), 1);
    EXPECT_EQ(http_get(address_), "hello\n");
  }
  std::array<char, 256> answer{};
  EXPECT_GT(::read(slow, answer.data(), answer.size()), 0) << "it is answered once it is whole";
  ::close(slow);
}

TEST_F(HttpServerTest, ARequestWithoutEndIsCutOff) {
  EXPECT_EQ(ask("GET /metrics HTTP/1.1\r\nX: " + std::string(2 * HttpServer::kRequestMax, 'x')), "");
}

TEST_F(HttpServerTest, AStormOfRequestsMakesFewPages) {
  for (int i = 0; i < 50; ++i) EXPECT_EQ(http_get(address_), "hello\n");
  EXPECT_LT(made_, 50);
}

TEST_F(HttpServerTest, AnAddressInUseIsRefused) {
  EXPECT_FALSE(HttpServer::start(address_, "/metrics", "text/plain", [] { return std::string(); }));
}

}  // namespace
}  // namespace balloon::daemon
