// SPDX-License-Identifier: Apache-2.0
#include "policy/reservations.h"

#include <algorithm>

#include "policy/rate.h"

namespace balloon::policy {
namespace {

bool has_deadline(const Reservation& reservation) { return reservation.deadline != Time{}; }

Bytes most(const Reservation& reservation) { return std::max(reservation.min, reservation.max); }

/// What guests cannot give to a reservation: their programs' memory; of guests of less weight than its
/// priority only what is guaranteed to them.
double out_of_reach(std::span<const Consumer> guests, const Reservation& reservation) {
  double bytes = 0;
  for (const Consumer& guest : guests)
    bytes += static_cast<double>(
        guest.levels[guest.weight < reservation.priority ? Level::minimum : Level::working_set]);
  return bytes;
}

/// Of a grant, what the guest that it is for is not counted at yet: a guest that boots grows into it.
Bytes left_of(Bytes granted, const Reservation& reservation, const Snapshot& snapshot,
              std::span<const Consumer> guests) {
  const auto guest = std::ranges::lower_bound(snapshot.guests, reservation.id, {}, &GuestSnapshot::name);
  if (guest == snapshot.guests.end() || !can_take(reservation, *guest)) return granted;
  const Consumer& consumer = guests[static_cast<std::size_t>(guest - snapshot.guests.begin())];
  const Bytes counted =
      guest->controllable ? std::max(guest->actual, guest->target) : consumer.levels[Level::minimum];
  return above(granted, counted);
}

}  // namespace

double sum_of_minimums(std::span<const Consumer> consumers) {
  double all = 0;
  for (const Consumer& each : consumers) all += static_cast<double>(each.levels[Level::minimum]);
  return all;
}

bool is_possible(const Reservation& reservation, Bytes kept, Time now, const Supply& supply,
                 double guaranteed) {
  const auto min = static_cast<double>(reservation.min);
  if (guaranteed + min > static_cast<double>(supply.budget)) return false;
  if (!has_deadline(reservation)) return true;
  const double there = static_cast<double>(kept) + static_cast<double>(supply.free);
  const double left = std::max(0.0, seconds(since(now, reservation.deadline)));
  return min - there <= supply.speed * left;
}

/// Out of reach it waits for what comes free: to take others' page cache for it would hurt them in vain.
Levels levels_of(const Reservation& reservation, const Supply& supply, double promised,
                 std::span<const Consumer> guests) {
  const Bytes high = most(reservation);
  const double reach = static_cast<double>(supply.budget) - promised - out_of_reach(guests, reservation);
  const bool within_reach = static_cast<double>(reservation.min) <= reach;
  const Bytes low = within_reach ? reservation.min : Bytes{0};
  const Bytes claim = within_reach ? high : Bytes{0};
  return Levels({low, low, claim, claim, high, high, high, high});
}

void Reservations::review(const Snapshot& snapshot, const Supply& supply, std::vector<Consumer>& consumers) {
  if (snapshot.reservations.empty()) {
    entries_.clear();
    kept_ = Bytes{0};
    return;
  }
  ++round_;
  const std::size_t guests = consumers.size();
  const double guaranteed = sum_of_minimums(consumers);
  double promised = 0;  // to reservations before
  for (const Reservation& reservation : snapshot.reservations) {
    Entry& entry = entries_[reservation.id];
    if (entry.deadline != reservation.deadline) entry = {.deadline = reservation.deadline};
    entry.round = round_;
    Consumer consumer{.levels = {}, .weight = std::max<std::uint32_t>(reservation.priority, 1)};
    if (reservation.granted > Bytes{0} && entry.state != GrantState::granted)
      entry = {.state = GrantState::granted,
               .deadline = reservation.deadline,
               .granted = reservation.granted,
               .round = round_};
    if (entry.state == GrantState::pending &&
        !is_possible(reservation, entry.kept, snapshot.now, supply, guaranteed + promised)) {
      entry = {.state = GrantState::denied, .deadline = reservation.deadline, .round = round_};
    }
    if (entry.state == GrantState::granted) {
      entry.kept = left_of(entry.granted, reservation, snapshot, consumers);
      consumer.levels = Levels::all_at(entry.kept);
    } else if (entry.state == GrantState::pending) {
      consumer.levels =
          levels_of(reservation, supply, promised, std::span<const Consumer>(consumers).first(guests));
    }
    promised += static_cast<double>(consumer.levels[Level::minimum]);
    consumers.push_back(consumer);
  }
  if (entries_.size() > snapshot.reservations.size())
    std::erase_if(entries_, [&](const auto& entry) { return entry.second.round != round_; });
  kept_ = Bytes{0};
  for (const auto& [id, entry] : entries_) kept_ += entry.kept;
}

void Reservations::keep(const Snapshot& snapshot, std::span<const Bytes> shares, Bytes free,
                        std::chrono::nanoseconds last_moment, Plan& plan) {
  plan.reservations.resize(snapshot.reservations.size());
  for (std::size_t i = 0; i < snapshot.reservations.size(); ++i) {
    const Reservation& reservation = snapshot.reservations[i];
    Entry& entry = entries_[reservation.id];
    if (entry.state == GrantState::pending) {
      const Bytes before = entry.kept;
      entry.kept = std::min(entry.kept, shares[i]);
      const Bytes more = std::min(shares[i] - entry.kept, free);
      entry.kept += more;
      free -= more;
      kept_ = kept_ - before + entry.kept;
      const bool enough = entry.kept >= reservation.min;
      const bool last = has_deadline(reservation) && since(snapshot.now, reservation.deadline) < last_moment;
      if (enough && (entry.kept == shares[i] || last)) {
        entry.state = GrantState::granted;
        entry.granted = entry.kept;
      }
    }
    plan.reservations[i] = {reservation.id, entry.state, entry.kept};
  }
}

}  // namespace balloon::policy
