// SPDX-License-Identifier: Apache-2.0
// Accepts connections itself, because gRPC does not tell who its peers are: the kernel's word on each is
// kept, and the descriptor is handed to gRPC, whose calls then have "fd:<number>" as their peer.
#pragma once

#include <grpcpp/server.h>

#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "balloond/api/connections.h"
#include "balloond/api/unix_socket.h"
#include "balloond/api/waiting_room.h"
#include "balloond/guests/vmm_link.h"

namespace balloon::daemon {

/// Where callers come in, and what each may.
struct Entrance {
  UnixSocket socket;
  std::optional<UnixSocket> read_socket{};  ///< over which nobody can do more than look
  Access access{};
};

class Acceptor final : public LinkPeers {
 public:
  Acceptor(Entrance entrance, const Clock& clock);
  ~Acceptor() override;
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  Result<void> start(grpc::Server& server);
  /// Who connects from here on is refused.
  void stop();
  /// Ends every connection that there is, whatever its peer does.
  void end_connections() { connections_.end_all(); }

  /// Who calls, from ServerContext::peer(). Unknown (pid 0, uid -1) for anything that did not come through
  /// here.
  Peer peer_of(const std::string& peer) const override;
  /// What whoever calls may.
  Roles roles_of(const std::string& peer) const;
  grpc::Status may_link(const std::string& peer) const override;
  /// That `peer` has called something.
  void called(const std::string& peer);
  void carries_guest(const std::string& peer, bool more) override;

 private:
  /// What is known of a process that comes more than once in a turn: it is looked up once, and once one of
  /// its connections is refused the others are, at next to no cost. So the queue is emptied more quickly than
  /// anybody fills it.
  struct Known {
    Caller caller;
    std::optional<Connections::Verdict> refused{};
    int refusals = 0;
  };
  using Turn = std::map<std::pair<pid_t, uid_t>, Known>;

  void run(grpc::Server& server);
  /// The socket is made again when somebody has removed it.
  static void keep_in_place(UnixSocket& socket);
  /// Those that wait in its queue. `most`: what whoever comes in by this socket may at most.
  void accept(grpc::Server& server, const UnixSocket& socket, Roles most);
  void judge(grpc::Server& server, UniqueFd connection, Roles most, Known& known);
  /// Those that have a place by now, or have waited for long enough.
  void take_waiting(grpc::Server& server);
  void take(grpc::Server& server, UniqueFd connection, const Caller& caller);
  static void log_refusals(const Caller& caller, Connections::Verdict why, int count);

  const Clock& clock_;
  Entrance entrance_;
  UniqueFd wakeup_;
  Connections connections_;
  WaitingRoom waiting_;
  Time looked_at_waiting_{};
  int next_fd_ = 0;
  std::thread thread_;
};

}  // namespace balloon::daemon
