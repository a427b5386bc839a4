#include "balloond/api/connections.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "balloond/host/process.h"

namespace balloon::daemon {
namespace {

/// Each connection is a system call to look at: not for each of a storm that is turned away.
constexpr std::chrono::nanoseconds kLookAgain = std::chrono::milliseconds(10);

}  // namespace

Caller Caller::of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return {};
  return {.peer = {.pid = credentials.pid, .uid = credentials.uid},
          .started = start_time("", credentials.pid).value_or(0)};
}

Connections::Verdict Connections::judge(const Caller& caller) {
  const std::lock_guard lock(mutex_);
  const bool operates = caller.roles.has(Role::operate);
  const std::size_t kept = operates ? 0 : std::min(limits_.for_operators, limits_.places / 2);
  const auto has_too_many = [&] { return without_guest(caller) >= limits_.each_process; };
  const auto all_taken = [&] { return connections_.size() + kept >= limits_.places; };
  if ((has_too_many() || all_taken()) && clock_.now() - looked_ >= kLookAgain) forget_closed();
  if (has_too_many()) return Verdict::process_has_too_many;
  return all_taken() ? Verdict::all_taken : Verdict::admitted;
}

void Connections::add(int fd, const Caller& caller) {
  struct stat found{};
  ::fstat(fd, &found);
  const std::lock_guard lock(mutex_);
  if (const auto before = connections_.find(fd);
      before != connections_.end()) {  // closed, for its number is free
    if (before->second.guests == 0) count(before->second.caller, -1);
    connections_.erase(before);
  }
  connections_.emplace(fd, Connection{.caller = caller, .socket = found.st_ino, .since = clock_.now()});
  count(caller, 1);
}

Peer Connections::peer_of(int fd) const {
  const std::lock_guard lock(mutex_);
  const auto known = connections_.find(fd);
  return known == connections_.end() ? Peer{} : known->second.caller.peer;
}

Roles Connections::roles_of(int fd) const {
  const std::lock_guard lock(mutex_);
  const auto known = connections_.find(fd);
  return known == connections_.end() ? Roles::none() : known->second.caller.roles;
}

void Connections::called(int fd) {
  const std::lock_guard lock(mutex_);
  if (const auto known = connections_.find(fd); known != connections_.end()) known->second.has_called = true;
}

void Connections::guest_joined(int fd) {
  const std::lock_guard lock(mutex_);
  const auto known = connections_.find(fd);
  if (known != connections_.end() && known->second.guests++ == 0) count(known->second.caller, -1);
}

void Connections::guest_left(int fd) {
  const std::lock_guard lock(mutex_);
  const auto known = connections_.find(fd);
  if (known == connections_.end() || known->second.guests == 0) return;  // its number is another's by now
  if (--known->second.guests == 0) count(known->second.caller, 1);
}

void Connections::sweep() {
  const std::lock_guard lock(mutex_);
  forget_closed();
  const Time now = clock_.now();
  for (const auto& [fd, connection] : connections_) {
    if (!connection.has_called && now - connection.since >= limits_.silence) ::shutdown(fd, SHUT_RDWR);
  }
}

void Connections::end_all() {
  const std::lock_guard lock(mutex_);
  forget_closed();
  for (const auto& [fd, connection] : connections_) ::shutdown(fd, SHUT_RDWR);
}

std::size_t Connections::size() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

bool Connections::is_open(const Map::value_type& connection) {
  struct stat found{};
  return ::fstat(connection.first, &found) == 0 && S_ISSOCK(found.st_mode) &&
         found.st_ino == connection.second.socket;
}

void Connections::forget_closed() {
  looked_ = clock_.now();
  std::erase_if(connections_, [this](const auto& each) {
    if (is_open(each)) return false;
    if (each.second.guests == 0) count(each.second.caller, -1);
    return true;
  });
}

std::size_t Connections::without_guest(const Caller& caller) const {
  const auto known = without_guest_.find(caller.key());
  return known == without_guest_.end() ? 0 : static_cast<std::size_t>(known->second);
}

void Connections::count(const Caller& caller, int by) {
  const auto known = without_guest_.try_emplace(caller.key(), 0).first;
  known->second += by;
  if (known->second == 0) without_guest_.erase(known);
}

}  // namespace balloon::daemon
