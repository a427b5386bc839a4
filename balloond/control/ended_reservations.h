// SPDX-License-Identifier: Apache-2.0
// The memory of reservations that are no more: so that a request that is asked again is not granted twice,
// and whoever asks later learns what became of it. Not thread-safe.
#pragma once

#include <deque>
#include <string_view>

#include "balloond/control/reservation.h"

namespace balloon::daemon {

class EndedReservations {
 public:
  /// Of those that were granted, and of the others: who is refused often pushes out no grant.
  static constexpr std::size_t kMost = 1000;
  static constexpr std::chrono::nanoseconds kKept = std::chrono::hours(1);

  void add(EndedReservation ended);
  /// Forgets what is older than kKept.
  void forget(Time now);

  /// The newest of that id; nullptr: none is known.
  const EndedReservation* find(std::string_view id) const;
  const EndedReservation* find(std::string_view id, std::string_view token) const;
  /// The grant of that request; nullptr: there was none.
  const EndedReservation* grant_of(uid_t uid, std::string_view request_id) const;
  /// Grants whose request may be asked again, the oldest first.
  std::vector<EndedReservation> to_keep() const;

 private:
  std::deque<EndedReservation> granted_;
  std::deque<EndedReservation> others_;
};

}  // namespace balloon::daemon
