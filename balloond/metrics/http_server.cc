// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/http_server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unix_listener.h"

namespace balloon::daemon {
namespace {

constexpr std::string_view kUnix = "unix:";
/// Accepted before those that are there have their turn again: fewer than there are places, so that who has
/// just come is heard before newcomers end it.
constexpr int kAcceptedAtOnce = 16;
constexpr int kLookMs = 1000;

/// "127.0.0.1:9477" and "[::1]:9477" apart.
std::pair<std::string, std::string> split(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  if (colon == std::string::npos) return {"", listen};
  std::string host = listen.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return {std::move(host), listen.substr(colon + 1)};
}

/// Who may connect reads what guests do: root, the daemon's user and its group.
constexpr mode_t kSocketMode = 0660;

Result<UniqueFd> listen_at(const std::string& listen) {
  if (listen.starts_with(kUnix)) return listen_unix(listen.substr(kUnix.size()), kSocketMode);
  const auto [host, port] = split(listen);
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found) != 0)
    return fail("it is not an address and a port");
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
  UniqueFd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("socket", errno);
  constexpr int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // Those that come at once wait in its queue: where they are more, clients try again only after a second.
  if (::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0) return fail_errno("bind", errno);
  if (::listen(socket.get(), SOMAXCONN) != 0) return fail_errno("listen", errno);
  return socket;
}

std::string head_of(std::string_view status, std::string_view content_type, std::size_t size) {
  return fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                     status, content_type, size);
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& listen, std::string path,
                                                      std::string content_type, Page page,
                                                      std::vector<Probe> probes) {
  auto socket = listen_at(listen);
  if (!socket) return std::unexpected(socket.error());
  UniqueFd wakeup(::eventfd(0, EFD_CLOEXEC));
  if (!wakeup) return fail_errno("cannot make an event descriptor", errno);
  auto server =
      std::unique_ptr<HttpServer>(new HttpServer(std::move(path), std::move(content_type), std::move(page),
                                                 std::move(probes), std::move(*socket), std::move(wakeup)));
  server->thread_ = std::thread([&it = *server] { it.run(); });
  return server;
}

HttpServer::HttpServer(std::string path, std::string content_type, Page page, std::vector<Probe> probes,
                       UniqueFd socket, UniqueFd wakeup)
    : path_(std::move(path)),
      content_type_(std::move(content_type)),
      make_page_(std::move(page)),
      probes_(std::move(probes)),
      socket_(std::move(socket)),
      wakeup_(std::move(wakeup)) {}

HttpServer::~HttpServer() {
  constexpr std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

void HttpServer::run() {
  std::vector<pollfd> waits;
  while (true) {
    waits.assign({{.fd = wakeup_.get(), .events = POLLIN, .revents = 0},
                  {.fd = socket_.get(), .events = POLLIN, .revents = 0}});
    for (const Connection& each : connections_) {
      const short events = each.answering ? POLLOUT : POLLIN;
      waits.push_back({.fd = each.socket.get(), .events = events, .revents = 0});
    }
    if (::poll(waits.data(), waits.size(), kLookMs) < 0 && errno != EINTR) return;
    if (waits[0].revents != 0) return;
    const Time now = std::chrono::steady_clock::now();
    std::size_t at = 2;
    std::erase_if(connections_, [&](Connection& each) {
      const bool ready = waits[at++].revents != 0;
      return now - each.since >= kConnectionMax || (ready && !serve(each));
    });
    if (waits[1].revents != 0) accept();
  }
}

void HttpServer::accept() {
  for (int i = 0; i < kAcceptedAtOnce; ++i) {
    if (!accept_one()) return;
  }
}

bool HttpServer::accept_one() {
  UniqueFd socket(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    // No descriptor is free: the queue stays readable until one has gone.
    if (errno == EMFILE || errno == ENFILE) end_one();
    return false;
  }
  if (connections_.size() >= kConnectionsMax) end_one();
  Connection& made = connections_.emplace_back();
  made.socket = std::move(socket);
  made.since = std::chrono::steady_clock::now();
  return true;
}

void HttpServer::end_one() {
  if (connections_.empty()) return;
  const auto answered = std::ranges::count(connections_, true, &Connection::answering);
  const bool too_many_answered = static_cast<std::size_t>(answered) > kConnectionsMax / 2;
  const auto victim = std::ranges::find(connections_, too_many_answered, &Connection::answering);
  connections_.erase(victim == connections_.end() ? connections_.begin() : victim);
}

bool HttpServer::serve(Connection& connection) {
  if (!connection.answering && !read(connection)) return false;
  return !connection.answering || write(connection);
}

bool HttpServer::read(Connection& connection) {
  std::array<char, 2048> part{};
  const ssize_t count = ::read(connection.socket.get(), part.data(), part.size());
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  connection.request.append(part.data(), static_cast<std::size_t>(count));
  if (connection.request.find("\r\n\r\n") != std::string::npos) {
    answer(connection);
    return true;
  }
  return connection.request.size() < kRequestMax;
}

void HttpServer::answer(Connection& connection) {
  const std::string_view request = connection.request;
  const std::string_view method = request.substr(0, request.find(' '));
  std::string_view target = request.substr(std::min(request.size(), method.size() + 1));
  target = target.substr(0, target.find_first_of(" ?\r"));
  connection.answering = true;
  if (method != "GET" && method != "HEAD") {
    connection.head = head_of("405 Method Not Allowed", "text/plain", 0);
  } else if (const auto probe = std::ranges::find(probes_, target, &Probe::path); probe != probes_.end()) {
    const std::string trouble = probe->trouble();
    auto body = std::make_shared<const std::string>((trouble.empty() ? "ok" : trouble) + '\n');
    connection.head =
        head_of(trouble.empty() ? "200 OK" : "503 Service Unavailable", "text/plain", body->size());
    if (method == "GET") connection.body = std::move(body);
  } else if (target != path_) {
    connection.head = head_of("404 Not Found", "text/plain", 0);
  } else {
    auto body = page();
    connection.head = head_of("200 OK", content_type_, body->size());
    if (method == "GET") connection.body = std::move(body);
  }
}

bool HttpServer::write(Connection& connection) {
  const std::size_t head = connection.head.size();
  const std::size_t whole = head + (connection.body ? connection.body->size() : 0);
  const char* const from = connection.sent < head ? connection.head.data() + connection.sent
                                                  : connection.body->data() + (connection.sent - head);
  const std::size_t size = (connection.sent < head ? head : whole) - connection.sent;
  const ssize_t count = ::send(connection.socket.get(), from, size, MSG_NOSIGNAL);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  connection.sent += static_cast<std::size_t>(count);
  return connection.sent < whole;
}

std::shared_ptr<const std::string> HttpServer::page() {
  const Time now = std::chrono::steady_clock::now();
  if (!page_ || now - page_made_ >= kPageFresh) {
    page_ = std::make_shared<const std::string>(make_page_());
    page_made_ = now;
  }
  return page_;
}

}  // namespace balloon::daemon
