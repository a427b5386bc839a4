// SPDX-License-Identifier: Apache-2.0
// A client of a Unix socket that speaks in lines: the serial port, the monitor.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <string>

#include "base/unique_fd.h"
#include "tests/integration/process.h"

namespace balloon::vmm::test {

/// A connection to a Unix socket of the VMM.
class Line {
 public:
  explicit Line(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    balloon::test::eventually([&] {
      fd_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      return ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    });
  }
  void send(const std::string& text) const {
    [[maybe_unused]] const auto sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  /// Reads until a line with `text` is complete; that line, or nothing within `limit`.
  std::string line_with(const std::string& text,
                        std::chrono::milliseconds limit = std::chrono::seconds(120)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < end) {
      for (std::size_t at; (at = unread_.find('\n')) != std::string::npos;) {
        const std::string line = unread_.substr(0, at);
        unread_.erase(0, at + 1);
        EXPECT_EQ(line.find("FAILED"), std::string::npos) << line;
        if (line.find(text) != std::string::npos) return line;
      }
      pollfd ready{.fd = fd_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 50) != 1) continue;
      std::array<char, 4096> buffer{};
      const ssize_t count = ::read(fd_.get(), buffer.data(), buffer.size());
      if (count <= 0) return "";
      unread_.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return "";
  }

 private:
  UniqueFd fd_;
  std::string unread_;
};

}  // namespace balloon::vmm::test
