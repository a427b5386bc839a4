// A client of the daemon's metrics.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
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

inline int http_connect(const std::string& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return fd;
  ::close(fd);
  return -1;
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
  const int fd = http_connect(address);
  if (fd < 0) return "";
  std::string response;
  const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
  if (::write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    std::array<char, 4096> part{};
    for (ssize_t count = 0; (count = ::read(fd, part.data(), part.size())) > 0;) {
      response.append(part.data(), static_cast<std::size_t>(count));
    }
  }
  ::close(fd);
  return response.substr(std::min(response.size(), response.find("\r\n\r\n") + 4));
}

}  // namespace balloon::test
