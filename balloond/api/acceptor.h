// Accepts connections itself, because gRPC does not tell who its peers are: the kernel's word on each is
// kept, and the descriptor is handed to gRPC, whose calls then have "fd:<number>" as their peer.
#pragma once

#include <grpcpp/server.h>

#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "balloond/api/unix_socket.h"
#include "balloond/guests/backend.h"

namespace balloon::daemon {

class Acceptor {
 public:
  explicit Acceptor(UnixSocket socket);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  Result<void> start(grpc::Server& server);
  /// No new connections from here on.
  void stop();
  /// Who calls, from ServerContext::peer(). Unknown (pid 0, uid -1) for anything that did not come through
  /// here.
  Peer peer_of(const std::string& peer) const;

 private:
  void run(grpc::Server& server);
  void take(grpc::Server& server, UniqueFd connection);

  UnixSocket socket_;
  UniqueFd wakeup_;
  mutable std::mutex mutex_;
  std::map<int, Peer> peers_;  ///< by descriptor; bounded by the range that descriptors are placed in
  int next_fd_ = 0;
  std::thread thread_;
};

}  // namespace balloon::daemon
