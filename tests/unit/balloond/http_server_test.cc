#include "balloond/metrics/http_server.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/integration/http.h"

namespace balloon::daemon {
namespace {

using balloon::test::free_address;
using balloon::test::HalfSent;
using balloon::test::http_connect;
using balloon::test::http_get;

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
  std::string ask(const std::string& request) const {
    const int fd = http_connect(address_);
    std::string response;
    if (::write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
      std::array<char, 4096> part{};
      for (ssize_t count = 0; (count = ::read(fd, part.data(), part.size())) > 0;)
        response.append(part.data(), static_cast<std::size_t>(count));
    }
    ::close(fd);
    return response;
  }

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

TEST_F(HttpServerTest, RequestsThatAreLeftHalfSentHoldNobodyUp) {
  std::vector<HalfSent> others(3 * HttpServer::kConnectionsMax);
  for (HalfSent& other : others) other.open(address_);
  EXPECT_EQ(http_get(address_), "hello\n");
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
