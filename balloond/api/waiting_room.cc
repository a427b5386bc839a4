// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/waiting_room.h"

#include <algorithm>
#include <utility>

namespace balloon::daemon {

bool WaitingRoom::enter(UniqueFd& connection, const Caller& caller) {
  const auto of_process =
      std::ranges::count_if(waiting_, [&](const Waiting& each) { return each.caller.key() == caller.key(); });
  const auto of_user = std::ranges::count_if(
      waiting_, [&](const Waiting& each) { return each.caller.peer.uid == caller.peer.uid; });
  if (waiting_.size() >= places_ || static_cast<std::size_t>(of_process) >= places_ / 4 ||
      static_cast<std::size_t>(of_user) >= places_ / 2) {
    return false;
  }
  waiting_.push_back({.connection = std::move(connection), .caller = caller, .since = clock_.now()});
  return true;
}

void WaitingRoom::look(Connections& connections, const OnLeave& on_leave) {
  const Time now = clock_.now();
  std::erase_if(waiting_, [&](Waiting& each) {
    const Connections::Verdict verdict = connections.judge(each.caller);
    if (verdict != Connections::Verdict::admitted && now - each.since < kWaitMax) return false;
    on_leave(std::move(each.connection), each.caller, verdict);
    return true;
  });
}

}  // namespace balloon::daemon
