// SPDX-License-Identifier: Apache-2.0
// A client of the daemon's metrics.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

namespace balloon::test {

/// A port that was free a moment ago.
inline std::string free_address() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(fd, reinterpret_cast<const sockaddr*>(&address), size);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
}

/// "127.0.0.1:1234", "[::1]:1234" or "unix:/path".
inline int http_connect(const std::string& address) {
  sockaddr_storage to{};
  socklen_t size = 0;
  if (address.starts_with("unix:")) {
    auto& local = reinterpret_cast<sockaddr_un&>(to);
    local.sun_family = AF_UNIX;
    address.copy(local.sun_path, sizeof local.sun_path - 1, 5);
    size = sizeof local;
  } else {
    const auto port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    if (address.starts_with('[')) {
      auto& six = reinterpret_cast<sockaddr_in6&>(to);
      six.sin6_family = AF_INET6;
      six.sin6_addr = in6addr_loopback;
      six.sin6_port = port;
      size = sizeof six;
    } else {
      auto& four = reinterpret_cast<sockaddr_in&>(to);
      four.sin_family = AF_INET;
      four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      four.sin_port = port;
      size = sizeof four;
    }
  }
  const int fd = ::socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), size) == 0) return fd;
  ::close(fd);
  return -1;
}

/// The whole response.
inline std::string http_request(const std::string& address, const std::string& request) {
  const int fd = http_connect(address);
  if (fd < 0) return "";
  std::string response;
  if (::write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    std::array<char, 4096> part{};
    for (ssize_t count = 0; (count = ::read(fd, part.data(), part.size())) > 0;)
      response.append(part.data(), static_cast<std::size_t>(count));
  }
  ::close(fd);
  return response;
}

/// A request that never ends.
class HalfSent {
 public:
  HalfSent() = default;
  ~HalfSent() {
    if (fd_ >= 0) ::close(fd_);
  }
  HalfSent(const HalfSent&) = delete;
  HalfSent& operator=(const HalfSent&) = delete;
  void open(const std::string& address) {
    fd_ = http_connect(address);
    [[maybe_unused]] const ssize_t written = ::write(fd_, "GET /met", 8);
  }

 private:
  int fd_ = -1;
};

inline std::string http_get(const std::string& address) {
  const std::string response = http_request(address, "GET /metrics HTTP/1.0\r\n\r\n");
  return response.substr(std::min(response.size(), response.find("\r\n\r\n") + 4));
}

}  // namespace balloon::test
