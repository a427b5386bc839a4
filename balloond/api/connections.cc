// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/connections.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "balloond/host/process.h"

namespace balloon::daemon {
namespace {

/// Each connection is a system call to look at, of less than a microsecond: not for each of a storm that is
/// turned away, and no more than a tenth of the time.
constexpr std::chrono::nanoseconds kLookAgain = std::chrono::milliseconds(10);
constexpr std::chrono::nanoseconds kLookAgainForEach = std::chrono::microseconds(10);

/// One more, or one less, of a key that is there only while it has some.
template <typename Key>
void count_in(std::map<Key, std::size_t>& counts, const Key& key, int by) {
  const auto known = counts.try_emplace(key, 0).first;
  known->second += static_cast<std::size_t>(by);
  if (known->second == 0) counts.erase(known);
}

template <typename Key>
std::size_t count_of(const std::map<Key, std::size_t>& counts, const Key& key) {
  const auto known = counts.find(key);
  return known == counts.end() ? 0 : known->second;
}

}  // namespace

Peer peer_at(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return {};
  return {.pid = credentials.pid, .uid = credentials.uid};
}

Caller Caller::of(const Peer& peer) {
  return {.peer = peer, .started = start_time("", peer.pid).value_or(0)};
}

Connections::Verdict Connections::judge(const Caller& caller) {
  const MutexLock lock(mutex_);
  const bool operates = caller.roles.has(Role::operate);
  const std::size_t kept = operates ? 0 : std::min(limits_.for_operators, limits_.places / 2);
  const auto judge_now = [&]() REQUIRES(mutex_) {
    if (process_has_too_many(caller)) return Verdict::process_has_too_many;
    if (user_has_too_many(caller)) return Verdict::user_has_too_many;
    return connections_.size() + kept >= limits_.places ? Verdict::all_taken : Verdict::admitted;
  };
  const Verdict verdict = judge_now();
  if (verdict == Verdict::admitted) return verdict;
  const auto look_again = kLookAgain + kLookAgainForEach * static_cast<std::int64_t>(connections_.size());
  if (clock_.now() - looked_ < look_again) return verdict;
  forget_closed();
  return judge_now();
}

void Connections::add(int fd, const Caller& caller) {
  struct stat found{};
  ::fstat(fd, &found);
  const MutexLock lock(mutex_);
  if (const auto before = connections_.find(fd);
      before != connections_.end()) {  // closed, for its number is free
    forget(before->second);
    connections_.erase(before);
  }
  connections_.emplace(fd, Connection{.caller = caller, .socket = found.st_ino, .since = clock_.now()});
  count(caller, 1);
}

Peer Connections::peer_of(int fd) const {
  const MutexLock lock(mutex_);
  const auto known = connections_.find(fd);
  return known == connections_.end() ? Peer{} : known->second.caller.peer;
}

Roles Connections::roles_of(int fd) const {
  const MutexLock lock(mutex_);
  const auto known = connections_.find(fd);
  return known == connections_.end() ? Roles::none() : known->second.caller.roles;
}

void Connections::called(int fd) {
  const MutexLock lock(mutex_);
  if (const auto known = connections_.find(fd); known != connections_.end()) known->second.has_called = true;
}

void Connections::guest_joined(int fd) {
  const MutexLock lock(mutex_);
  const auto known = connections_.find(fd);
  if (known != connections_.end() && known->second.guests++ == 0) count(known->second.caller, -1);
}

void Connections::guest_left(int fd) {
  const MutexLock lock(mutex_);
  const auto known = connections_.find(fd);
  if (known == connections_.end() || known->second.guests == 0) return;  // its number is another's by now
  if (--known->second.guests == 0) count(known->second.caller, 1);
}

void Connections::sweep() {
  const MutexLock lock(mutex_);
  forget_closed();
  const Time now = clock_.now();
  for (const auto& [fd, connection] : connections_) {
    if (!connection.has_called && now - connection.since >= limits_.silence) ::shutdown(fd, SHUT_RDWR);
  }
}

void Connections::end_all() {
  const MutexLock lock(mutex_);
  forget_closed();
  for (const auto& [fd, connection] : connections_) ::shutdown(fd, SHUT_RDWR);
}

std::size_t Connections::size() const {
  const MutexLock lock(mutex_);
  return connections_.size();
}

bool Connections::is_open(const Map::value_type& connection) {
  struct stat found{};
  return ::fstat(connection.first, &found) == 0 && S_ISSOCK(found.st_mode) &&
         found.st_ino == connection.second.socket;
}

void Connections::forget_closed() {
  looked_ = clock_.now();
  std::erase_if(connections_, [this](const auto& each) REQUIRES(mutex_) {
    if (is_open(each)) return false;
    forget(each.second);
    return true;
  });
  std::erase_if(left_, [this](const Left& each) REQUIRES(mutex_) {
    if (each.until > looked_) return false;
    count(each.caller, -1);
    return true;
  });
}

void Connections::forget(const Connection& connection) {
  if (connection.guests > 0) return;
  const Time until = connection.since + limits_.silence;
  if (connection.has_called || until <= clock_.now()) return count(connection.caller, -1);
  left_.push_back({.caller = connection.caller, .until = until});
}

bool Connections::process_has_too_many(const Caller& caller) const {
  return count_of(of_process_, caller.key()) >= limits_.each_process;
}

bool Connections::user_has_too_many(const Caller& caller) const {
  return count_of(of_user_, caller.peer.uid) >= limits_.each_user;
}

void Connections::count(const Caller& caller, int by) {
  count_in(of_process_, caller.key(), by);
  count_in(of_user_, caller.peer.uid, by);
}

}  // namespace balloon::daemon
