// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/acceptor.h"

#include <fcntl.h>
#include <fmt/format.h>
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
/// late call of the connection before still names it. Some ten thousand guests, and as many again.
constexpr int kFdRange = 1 << 15;
/// What the daemon needs for itself (files of /proc, some for each guest, and gRPC's own) stays below the
/// range.
constexpr int kFdShareForConnections = 2;  // the upper half
/// One user's connections without a guest leave as many places to others.
constexpr std::size_t kUserShare = 4;  // a quarter
/// Descriptors of connections that wait for a place of their process: no more than leave the daemon its own.
constexpr int kWaitingMax = 1024;
constexpr int kWaitingShare = 4;  // of those below the range, a quarter
/// Accepted before others (the other socket, those that wait) have their turn: some milliseconds.
constexpr int kAcceptedAtOnce = 1024;
/// How often is looked at those that wait, and at those that are silent.
constexpr int kWaitingLookMs = 10;
constexpr int kSweepMs = 1000;
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

/// The descriptor that gRPC names a connection by; -1 when it is none of ours.
int descriptor_of(const std::string& peer) {
  constexpr std::string_view prefix = "fd:";
  int fd = -1;
  if (peer.starts_with(prefix)) std::from_chars(peer.data() + prefix.size(), peer.data() + peer.size(), fd);
  return fd;
}

Connections::Limits limits() {
  const FdRange range = connection_fds();
  Connections::Limits limits;
  limits.places = static_cast<std::size_t>(range.last) - static_cast<std::size_t>(range.first) + 1;
  limits.each_user = std::max(limits.each_process, limits.places / kUserShare);
  return limits;
}

std::size_t waiting_places() {
  return static_cast<std::size_t>(std::min(kWaitingMax, connection_fds().first / kWaitingShare));
}

}  // namespace

Acceptor::Acceptor(Entrance entrance, const Clock& clock)
    : clock_(clock),
      entrance_(std::move(entrance)),
      connections_(clock, limits()),
      waiting_(clock, waiting_places()) {}

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
  waiting_.clear();
  entrance_.socket.close();
  if (entrance_.read_socket) entrance_.read_socket->close();
}

Peer Acceptor::peer_of(const std::string& peer) const { return connections_.peer_of(descriptor_of(peer)); }

Roles Acceptor::roles_of(const std::string& peer) const { return connections_.roles_of(descriptor_of(peer)); }

grpc::Status Acceptor::may_link(const std::string& peer) const {
  return roles_of(peer).has(Role::link) ? grpc::Status::OK : without_role(Role::link);
}

void Acceptor::called(const std::string& peer) { connections_.called(descriptor_of(peer)); }

void Acceptor::carries_guest(const std::string& peer, bool more) {
  if (more) {
    connections_.guest_joined(descriptor_of(peer));
  } else {
    connections_.guest_left(descriptor_of(peer));
  }
}

void Acceptor::run(grpc::Server& server) {
  Time swept = clock_.now();
  while (true) {
    const int read_fd = entrance_.read_socket ? entrance_.read_socket->fd() : -1;
    std::array<pollfd, 3> waits{{{.fd = wakeup_.get(), .events = POLLIN, .revents = 0},
                                 {.fd = entrance_.socket.fd(), .events = POLLIN, .revents = 0},
                                 {.fd = read_fd, .events = POLLIN, .revents = 0}}};
    if (::poll(waits.data(), waits.size(), waiting_.empty() ? kSweepMs : kWaitingLookMs) < 0 &&
        errno != EINTR)
      return;
    if (waits[0].revents != 0) return;
    if (clock_.now() - swept >= std::chrono::milliseconds(kSweepMs)) {
      connections_.sweep();
      keep_in_place(entrance_.socket);
      if (entrance_.read_socket) keep_in_place(*entrance_.read_socket);
      swept = clock_.now();
    }
    take_waiting(server);
    if (waits[1].revents != 0) accept(server, entrance_.socket, Roles::all());
    if (waits[2].revents != 0) accept(server, *entrance_.read_socket, Roles::of(Role::read));
  }
}

void Acceptor::keep_in_place(UnixSocket& socket) {
  if (socket.is_in_place()) return;
  if (const auto renewed = socket.renew(); renewed) {
    log::warning(kAccepting, "socket {} had been removed: it is made again", socket.path());
  } else {
    log::warning(kAccepting, "socket {} has been removed, and cannot be made again: {}", socket.path(),
                 renewed.error().message);
  }
}

void Acceptor::accept(grpc::Server& server, const UnixSocket& socket, Roles most) {
  Turn turn;
  for (int i = 0; i < kAcceptedAtOnce; ++i) {
    UniqueFd connection(::accept4(socket.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) break;
      log::warning(kAccepting, "cannot accept a connection: {}", fail_errno("accept", errno).error().message);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the queue stays readable: do not spin
      break;
    }
    const Peer peer = peer_at(connection.get());
    const auto [known, is_new] = turn.try_emplace({peer.pid, peer.uid});
    if (is_new) known->second.caller = Caller::of(peer);
    judge(server, std::move(connection), most, known->second);
  }
  for (const auto& [process, known] : turn) {
    if (known.refused) log_refusals(known.caller, *known.refused, known.refusals);
  }
}

void Acceptor::judge(grpc::Server& server, UniqueFd connection, Roles most, Known& known) {
  if (!known.refused) {
    Caller caller = known.caller;
    caller.roles = entrance_.access.roles_of(caller.peer.uid, groups_of_peer(connection.get())).and_in(most);
    const auto verdict = connections_.judge(caller);
    if (verdict == Connections::Verdict::admitted) return take(server, std::move(connection), caller);
    if (verdict != Connections::Verdict::all_taken && waiting_.enter(connection, caller)) return;
    known.refused = verdict;
  }
  ++known.refusals;
}

void Acceptor::take_waiting(grpc::Server& server) {
  if (waiting_.empty() || clock_.now() - looked_at_waiting_ < std::chrono::milliseconds(kWaitingLookMs))
    return;
  looked_at_waiting_ = clock_.now();
  waiting_.look(connections_, [&](UniqueFd connection, const Caller& caller, Connections::Verdict verdict) {
    if (verdict == Connections::Verdict::admitted) return take(server, std::move(connection), caller);
    log_refusals(caller, verdict, 1);
  });
}

void Acceptor::log_refusals(const Caller& caller, Connections::Verdict why, int count) {
  constexpr auto reason = [](Connections::Verdict verdict) {
    switch (verdict) {
      case Connections::Verdict::process_has_too_many:
        return "it has too many without a guest";
      case Connections::Verdict::user_has_too_many:
        return "its user has too many without a guest";
      default:
        return "all places are taken";
    }
  };
  log::warning(source_of(caller.peer), "refused: {} of process {} (user {}): {}",
               count == 1 ? "a connection" : fmt::format("{} connections", count), caller.peer.pid,
               caller.peer.uid, reason(why));
}

void Acceptor::take(grpc::Server& server, UniqueFd connection, const Caller& caller) {
  const FdRange range = connection_fds();
  if (next_fd_ < range.first || next_fd_ > range.last) next_fd_ = range.first;
  UniqueFd placed(::fcntl(connection.get(), F_DUPFD_CLOEXEC, next_fd_));
  if (!placed) placed = UniqueFd(::fcntl(connection.get(), F_DUPFD_CLOEXEC, range.first));
  if (!placed) return log_refusals(caller, Connections::Verdict::all_taken, 1);
  next_fd_ = placed.get() + 1;
  connections_.add(placed.get(), caller);
  grpc::AddInsecureChannelFromFd(&server, placed.release());
}

}  // namespace balloon::daemon
