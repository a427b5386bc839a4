// SPDX-License-Identifier: Apache-2.0
// Where connections wait whose process or user has too many without a guest: a moment later some of those may
// have theirs.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>

#include "balloond/api/connections.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

class WaitingRoom {
 public:
  /// A process that starts with many guests at once has each of them registered within this time.
  static constexpr std::chrono::nanoseconds kWaitMax = std::chrono::seconds(5);

  /// `places` for all; of them a quarter for each process, and half for each user.
  WaitingRoom(const Clock& clock, std::size_t places) : clock_(clock), places_(places) {}

  /// Whether it may wait; if not, `connection` is as it was.
  bool enter(UniqueFd& connection, const Caller& caller);
  /// Of one that is admitted, or one that has waited for too long.
  using OnLeave =
      std::function<void(UniqueFd connection, const Caller& caller, Connections::Verdict verdict)>;
  /// Judges all, in the order in which they came.
  void look(Connections& connections, const OnLeave& on_leave);
  void clear() { waiting_.clear(); }
  bool empty() const { return waiting_.empty(); }
  std::size_t size() const { return waiting_.size(); }

 private:
  struct Waiting {
    UniqueFd connection;
    Caller caller;
    Time since{};
  };

  const Clock& clock_;
  const std::size_t places_;
  std::list<Waiting> waiting_;
};

}  // namespace balloon::daemon
