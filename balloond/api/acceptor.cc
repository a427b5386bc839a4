#include "balloond/api/acceptor.h"

#include <fcntl.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>

#include "balloond/guests/registry.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

/// Connections get descriptor numbers that go round in a range, so that a number is not used again while a
/// late call of the connection before still names it.
constexpr int kFdRange = 4096;
/// What the daemon needs for itself (files of /proc, one for each guest, and gRPC's own) stays below the
/// range.
constexpr int kFdShareForConnections = 2;  // the upper half

const log::Source kAccepting{"accepting connections"};

struct FdRange {
  int first;
  int last;
};

FdRange connection_fds() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = 1024;
  const int top = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
  return {.first = std::max(top / kFdShareForConnections, top - kFdRange), .last = top - 1};
}

}  // namespace

Acceptor::Acceptor(UnixSocket socket) : socket_(std::move(socket)) {}

Acceptor::~Acceptor() { stop(); }

Result<void> Acceptor::start(grpc::Server& server) {
  wakeup_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!wakeup_) return fail_errno("cannot make an event descriptor", errno);
  thread_ = std::thread([this, &server] { run(server); });
  return {};
}

void Acceptor::stop() {
  if (!thread_.joinable()) return;
  constexpr std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
  thread_.join();
}

Peer Acceptor::peer_of(const std::string& peer) const {
  constexpr std::string_view prefix = "fd:";
  int fd = -1;
  if (!peer.starts_with(prefix)) return {};
  std::from_chars(peer.data() + prefix.size(), peer.data() + peer.size(), fd);
  const std::lock_guard lock(mutex_);
  const auto known = peers_.find(fd);
  return known == peers_.end() ? Peer{} : known->second;
}

void Acceptor::run(grpc::Server& server) {
  while (true) {
    std::array<pollfd, 2> waits{{{.fd = wakeup_.get(), .events = POLLIN, .revents = 0},
                                 {.fd = socket_.fd(), .events = POLLIN, .revents = 0}}};
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
    if (waits[0].revents != 0) return;
    if (waits[1].revents == 0) continue;
    UniqueFd connection(::accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection) {
      take(server, std::move(connection));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      log::warning(kAccepting, "cannot accept a connection: {}", fail_errno("accept", errno).error().message);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the queue stays readable: do not spin
    }
  }
}

void Acceptor::take(grpc::Server& server, UniqueFd connection) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return;
  const FdRange range = connection_fds();
  if (next_fd_ < range.first || next_fd_ > range.last) next_fd_ = range.first;
  UniqueFd placed(::fcntl(connection.get(), F_DUPFD_CLOEXEC, next_fd_));
  if (!placed) placed = UniqueFd(::fcntl(connection.get(), F_DUPFD_CLOEXEC, range.first));
  if (!placed) {
    log::warning(source_of({.pid = credentials.pid, .uid = credentials.uid}),
                 "a connection of process {} is refused: no descriptors are left", credentials.pid);
    return;
  }
  next_fd_ = placed.get() + 1;
  {
    const std::lock_guard lock(mutex_);
    peers_[placed.get()] = Peer{.pid = credentials.pid, .uid = credentials.uid};
  }
  grpc::AddInsecureChannelFromFd(&server, placed.release());
}

}  // namespace balloon::daemon
