// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/ended_reservations.h"

#include <algorithm>
#include <ranges>

#include "balloond/control/token.h"

namespace balloon::daemon {
namespace {

using List = std::deque<EndedReservation>;

const ReservationRecord& record_of(const EndedReservation& ended) { return ended.outcome.record; }

const EndedReservation* newest(const List& list, const auto& is_it) {
  const auto backwards = std::views::reverse(list);
  const auto found = std::ranges::find_if(backwards, is_it);
  return found == backwards.end() ? nullptr : &*found;
}

}  // namespace

void EndedReservations::add(EndedReservation ended) {
  List& list = record_of(ended).is_granted() ? granted_ : others_;
  if (list.size() >= kMost) list.pop_front();
  list.push_back(std::move(ended));
}

void EndedReservations::forget(Time now) {
  for (List* const list : {&granted_, &others_}) {
    while (!list->empty() && now - list->front().at > kKept) list->pop_front();
  }
}

const EndedReservation* EndedReservations::find(std::string_view id) const {
  const auto is_it = [&](const EndedReservation& each) { return record_of(each).wish.id == id; };
  const EndedReservation* const granted = newest(granted_, is_it);
  const EndedReservation* const other = newest(others_, is_it);
  if (granted == nullptr || other == nullptr) return granted == nullptr ? other : granted;
  return granted->at >= other->at ? granted : other;
}

const EndedReservation* EndedReservations::find(std::string_view id, std::string_view token) const {
  const auto is_it = [&](const EndedReservation& each) {
    return record_of(each).wish.id == id && same_token(record_of(each).token, token);
  };
  const EndedReservation* const granted = newest(granted_, is_it);
  return granted == nullptr ? newest(others_, is_it) : granted;
}

const EndedReservation* EndedReservations::grant_of(uid_t uid, std::string_view request_id) const {
  return newest(granted_, [&](const EndedReservation& each) {
    const ReservationRequest& wish = record_of(each).wish;
    return wish.uid == uid && wish.request_id == request_id;
  });
}

std::vector<EndedReservation> EndedReservations::to_keep() const {
  std::vector<EndedReservation> kept;
  for (const EndedReservation& each : granted_) {
    if (!record_of(each).wish.request_id.empty()) kept.push_back(each);
  }
  return kept;
}

}  // namespace balloon::daemon
