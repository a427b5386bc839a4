// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/reservations.h"

#include <algorithm>

#include "policy/peers/balloond1/rate.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// With less time than this left a grant is made of what is there, if that is enough.
constexpr std::chrono::nanoseconds kLastMoment = std::chrono::seconds(2);

bool has_deadline(const Reservation& reservation) { return reservation.deadline != Time{}; }

Bytes most(const Reservation& reservation) { return std::max(reservation.min, reservation.max); }

/// What guests cannot give to a reservation: their programs' memory; of guests of less weight than its
/// priority only what is guaranteed to them.
double out_of_reach(std::span<const Party> guests, const Reservation& reservation) {
  double bytes = 0;
  for (const Party& guest : guests)
    bytes += static_cast<double>(guest.weight < reservation.priority ? guest.low : guest.firm);
  return bytes;
}

/// Of a grant, what the guest that it is for is not counted at yet: a guest that boots grows into it.
Bytes left_of(Bytes granted, const std::string& id, const Snapshot& snapshot, std::span<const Party> guests) {
  const auto guest = std::ranges::lower_bound(snapshot.guests, id, {}, &GuestSnapshot::name);
  if (guest == snapshot.guests.end() || guest->name != id) return granted;
  const Party& party = guests[static_cast<std::size_t>(guest - snapshot.guests.begin())];
  const Bytes counted = guest->controllable ? std::max(guest->actual, guest->target) : party.low;
  return above(granted, counted);
}

}  // namespace

/// Whether it can be had at all, and by its deadline. `guaranteed`: to guests and to reservations before it.
bool Reservations::possible(const Reservation& reservation, const Entry& entry, Time now, const Means& means,
                            double guaranteed) const {
  const auto min = static_cast<double>(reservation.min);
  if (guaranteed + min > static_cast<double>(means.budget)) return false;
  if (!has_deadline(reservation)) return true;
  const double there = static_cast<double>(entry.kept) + static_cast<double>(means.free);
  const double left = std::max(0.0, seconds(since(now, reservation.deadline)));
  return min - there <= means.speed * left;
}

void Reservations::review(const Snapshot& snapshot, const Means& means, std::vector<Party>& parties) {
  if (snapshot.reservations.empty()) {
    entries_.clear();
    kept_ = Bytes{0};
    return;
  }
  ++round_;
  const std::size_t guests = parties.size();
  double guaranteed = 0;
  double promised = 0;  // to reservations before
  for (const Party& guest : parties) guaranteed += static_cast<double>(guest.low);
  for (const Reservation& reservation : snapshot.reservations) {
    Entry& entry = entries_[reservation.id];
    entry.round = round_;
    Party party{.weight = std::max<std::uint32_t>(reservation.priority, 1)};
    if (reservation.granted > Bytes{0} && entry.state != GrantState::granted)
      entry = {.state = GrantState::granted, .granted = reservation.granted, .kept = {}, .round = round_};
    if (entry.state == GrantState::pending &&
        !possible(reservation, entry, snapshot.now, means, guaranteed + promised)) {
      entry = {.state = GrantState::denied, .kept = {}, .round = round_};
    }
    if (entry.state == GrantState::granted) {
      entry.kept = left_of(entry.granted, reservation.id, snapshot, parties);
      party.low = party.firm = party.need = party.claim = party.calm = party.keep = party.most = entry.kept;
    } else if (entry.state == GrantState::pending) {
      party.calm = party.keep = party.most = most(reservation);
      const double reach = static_cast<double>(means.budget) - promised -
                           out_of_reach(std::span(parties).first(guests), reservation);
      // Out of reach it waits for what comes free: to take others' page cache for it would hurt them in vain.
      if (static_cast<double>(reservation.min) <= reach) {
        party.low = party.firm = reservation.min;
        party.need = party.claim = party.most;
      }
    }
    promised += static_cast<double>(party.low);
    parties.push_back(party);
  }
  if (entries_.size() > snapshot.reservations.size())
    std::erase_if(entries_, [&](const auto& entry) { return entry.second.round != round_; });
  kept_ = Bytes{0};
  for (const auto& [id, entry] : entries_) kept_ += entry.kept;
}

void Reservations::keep(const Snapshot& snapshot, std::span<const Bytes> shares, Bytes free, Plan& plan) {
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
      const bool last = has_deadline(reservation) && since(snapshot.now, reservation.deadline) < kLastMoment;
      if (enough && (entry.kept == shares[i] || last)) {
        entry.state = GrantState::granted;
        entry.granted = entry.kept;
      }
    }
    plan.reservations[i] = {reservation.id, entry.state, entry.kept};
  }
}

}  // namespace balloon::policy::peers::balloond1
