// SPDX-License-Identifier: Apache-2.0
// TCP round trips of one byte, one after the other (as netperf's TCP_RR).
//   round_trips serve PORT                   answers one client after the other, for ever
//   round_trips ask ADDRESS PORT SECONDS     {"transactions":N,"seconds":S,"p50_us":X,"p99_us":Y}
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

int fail(const char* what) {
  std::perror(what);
  return 1;
}

void without_delay(int connection) {
  const int on = 1;
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

sockaddr_in endpoint(const char* address, const char* port) {
  sockaddr_in found{};
  found.sin_family = AF_INET;
  found.sin_port = htons(static_cast<std::uint16_t>(std::strtoul(port, nullptr, 10)));
  inet_pton(AF_INET, address, &found.sin_addr);
  return found;
}

int serve(const char* port) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in here = endpoint("0.0.0.0", port);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0) return fail("bind");
  if (listen(listener, 1) != 0) return fail("listen");
  while (true) {
    const int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) return fail("accept");
    without_delay(connection);
    for (char byte = 0; read(connection, &byte, 1) == 1 && write(connection, &byte, 1) == 1;) {
    }
    close(connection);
  }
}

int ask(const char* address, const char* port, double seconds) {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in there = endpoint(address, port);
  if (connect(connection, reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0)
    return fail("connect");
  without_delay(connection);
  std::vector<double> microseconds;
  const auto start = Clock::now();
  auto before = start;
  while (before - start < std::chrono::duration<double>(seconds)) {
    char byte = 1;
    if (write(connection, &byte, 1) != 1 || read(connection, &byte, 1) != 1) return fail("round trip");
    const auto after = Clock::now();
    microseconds.push_back(std::chrono::duration<double, std::micro>(after - before).count());
    before = after;
  }
  std::sort(microseconds.begin(), microseconds.end());
  const double took = std::chrono::duration<double>(before - start).count();
  std::printf("{\"transactions\":%zu,\"seconds\":%.3f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
              microseconds.size(), took, microseconds[microseconds.size() / 2],
              microseconds[microseconds.size() * 99 / 100]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "serve" && argc == 3) return serve(argv[2]);
  if (what == "ask" && argc == 5) return ask(argv[2], argv[3], std::strtod(argv[4], nullptr));
  std::fprintf(stderr, "usage: round_trips serve PORT, or round_trips ask ADDRESS PORT SECONDS\n");
  return 2;
}
