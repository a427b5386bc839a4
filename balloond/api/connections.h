// SPDX-License-Identifier: Apache-2.0
// Who holds which of the places for connections. One that carries a guest counts as that guest; any other
// counts against its process and its user, and has to call something soon. So nobody can keep VMMs,
// schedulers or operators out.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <tuple>

#include "balloond/api/access.h"
#include "balloond/clock.h"
#include "balloond/guests/backend.h"
#include "base/mutex.h"

namespace balloon::daemon {

/// A process by the kernel's word; its start time tells it from a later one of the same number.
struct Caller {
  Peer peer;
  std::uint64_t started = 0;  ///< clock ticks since boot; 0: unknown
  Roles roles = Roles::none();

  /// Without a role yet.
  static Caller of(const Peer& peer);
  using Key = std::tuple<pid_t, std::uint64_t, uid_t>;
  Key key() const { return {peer.pid, started, peer.uid}; }
};

/// The process at the other end of `socket`.
Peer peer_at(int socket);

class Connections {
 public:
  struct Limits {
    std::size_t places = 4096;                                    ///< in all
    std::size_t for_operators = 64;                               ///< of them, for the role operate alone
    std::size_t each_process = 64;                                ///< without a guest
    std::size_t each_user = 1024;                                 ///< likewise, of all its processes
    std::chrono::nanoseconds silence = std::chrono::seconds(10);  ///< a new one has to call something by then
  };
  enum class Verdict : std::uint8_t { admitted, process_has_too_many, user_has_too_many, all_taken };

  Connections(const Clock& clock, Limits limits) : clock_(clock), limits_(limits) {}

  /// Whether there is a place for one more of `caller`.
  Verdict judge(const Caller& caller);
  /// `fd` is gRPC's from here on, which closes it.
  void add(int fd, const Caller& caller);
  /// Unknown (pid 0, uid -1) when there is none.
  Peer peer_of(int fd) const;
  /// What its peer may; nothing when there is none.
  Roles roles_of(int fd) const;
  /// It has called something.
  void called(int fd);
  void guest_joined(int fd);
  void guest_left(int fd);
  /// Forgets those that are closed; ends those that have been silent for too long. About once a second.
  void sweep();
  /// Ends all: what waits for a peer to read or write fails at once.
  void end_all();
  std::size_t size() const;

 private:
  struct Connection {
    Caller caller;
    ino_t socket = 0;  ///< its inode: a descriptor's number may be another's by now
    Time since{};
    bool has_called = false;
    int guests = 0;
  };
  using Map = std::map<int, Connection>;
  /// Of one that was closed before it had called anything, which holds its place for as long as if it had
  /// stayed: to connect again and again gains nothing.
  struct Left {
    Caller caller;
    Time until{};
  };
  static bool is_open(const Map::value_type& connection);
  void forget_closed() REQUIRES(mutex_);
  void forget(const Connection& connection) REQUIRES(mutex_);
  bool process_has_too_many(const Caller& caller) const REQUIRES(mutex_);
  bool user_has_too_many(const Caller& caller) const REQUIRES(mutex_);
  /// Called with `by` +1 or -1 as a connection without a guest comes or goes.
  void count(const Caller& caller, int by) REQUIRES(mutex_);

  const Clock& clock_;
  const Limits limits_;
  mutable Mutex mutex_;
  Map connections_ GUARDED_BY(mutex_);  ///< by descriptor
  std::deque<Left> left_ GUARDED_BY(mutex_);
  // How many are without a guest, of each process and of each user that has some.
  std::map<Caller::Key, std::size_t> of_process_ GUARDED_BY(mutex_);
  std::map<uid_t, std::size_t> of_user_ GUARDED_BY(mutex_);
  Time looked_ GUARDED_BY(mutex_){};  ///< when forget_closed() was called last
};

}  // namespace balloon::daemon
