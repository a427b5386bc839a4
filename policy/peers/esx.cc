// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/esx.h"

#include <algorithm>

#include "policy/peers/plans.h"
#include "policy/peers/readings.h"

namespace balloon::policy::peers {
namespace {

/// Halvings of the price's range: to less than a page of the largest host.
constexpr int kHalvings = 64;

/// What stands in for the pages that were touched when ESX takes away 100 at random and looks which fault.
double in_use(const GuestSnapshot& guest) {
  return reported_used(guest).value_or(static_cast<double>(std::min(guest.on_host.resident, guest.memory)));
}

}  // namespace

Plan Esx::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  const bool others = tracks_.align(snapshot);
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    sample(guest, snapshot.now, tracks_[i]);
    plan.guests[i].used =
        static_cast<Bytes>(std::clamp(tracks_[i].active, 0.0, static_cast<double>(guest.memory)));
  }
  const bool crossed = watch_free(snapshot.host);
  if (reclaiming_) plan.state = HostState::tight;
  admit(snapshot, plan);
  if (others || crossed || !balanced_at_ || snapshot.now - *balanced_at_ >= settings_.balance_period) {
    balanced_at_ = snapshot.now;
    allocate(snapshot, plan);
  }
  if (snapshot.host.ksm) {
    constexpr std::uint64_t kWakes = 10;  // a second
    plan.ksm = KsmPlan{.run = true,
                       .pages_to_scan = settings_.share_scan_total / kWakes,
                       .sleep = std::chrono::milliseconds(1000) / kWakes};
  }
  return plan;
}

/// The largest of a slow average over sample periods, a fast one, and the fast one with the period that runs:
/// it rises quickly and falls slowly.
void Esx::sample(const GuestSnapshot& guest, Time now, Track& track) const {
  if (!track.fast) {
    track.began = now;
    track.fast = track.slow = in_use(guest);
  }
  if (now - track.began >= settings_.sample_period && track.count > 0) {
    const double mean = track.sum / track.count;
    *track.fast += settings_.fast_gain * (mean - *track.fast);
    track.slow += settings_.slow_gain * (mean - track.slow);
    track.began = now;
    track.sum = track.count = 0;
  }
  track.sum += in_use(guest);
  track.count += 1;
  const double running = *track.fast + settings_.fast_gain * (track.sum / track.count - *track.fast);
  track.active = std::max({track.slow, *track.fast, running});
}

/// Whether free memory has crossed a threshold: reclaiming begins under `soft` and ends well above `high`.
bool Esx::watch_free(const HostSnapshot& host) {
  const auto total = static_cast<double>(host.total);
  const auto free = static_cast<double>(std::min(host.available, host.total));
  const bool before = reclaiming_;
  reclaiming_ =
      reclaiming_ ? free < (settings_.high + settings_.leave) * total : free < settings_.soft * total;
  return reclaiming_ != before;
}

/// Where min-funding revocation comes to rest: it takes from the client with the fewest shares for each page
/// that it has, an idle page counting 1/(1 - tax) times, until all have the same or are at a limit.
void Esx::allocate(const Snapshot& snapshot, Plan& plan) {
  const auto total = static_cast<double>(snapshot.host.total);
  double left = total * (1 - settings_.high) - host_own_use(snapshot);
  clients_.clear();
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    const auto memory = static_cast<double>(guest.memory);
    if (!guest.controllable) {
      left -= static_cast<double>(std::min(guest.on_host.resident, guest.memory));
      continue;
    }
    Client client{.guest = i};
    client.shares = std::max(1.0, static_cast<double>(guest.limits.weight) * memory);
    client.active = tracks_[i].active;
    client.high = static_cast<double>(std::min(guest.limits.max, guest.memory));
    client.low = std::min(client.high, std::max(static_cast<double>(guest.limits.min),
                                                memory * (1 - settings_.ctl_max_percent / 100)));
    clients_.push_back(client);
  }
  double cheap = 0;
  double dear = 0;
  for (const Client& client : clients_)
    dear = std::max(dear, client.high / (1 - settings_.idle_tax) / client.shares);
  for (int i = 0; i < kHalvings; ++i) {
    const double price = (cheap + dear) / 2;
    double sum = 0;
    for (const Client& client : clients_) sum += allocation(client, price);
    (sum <= left ? cheap : dear) = price;
  }
  for (const Client& client : clients_) {
    const GuestSnapshot& guest = snapshot.guests[client.guest];
    const double target = allocation(client, cheap);
    GuestPlan& mine = plan.guests[client.guest];
    // While enough is free nothing is reclaimed, but guests may have more.
    if (reclaiming_ || target > static_cast<double>(guest.target)) ask(guest, target, mine);
  }
}

/// What a client has when pages cost so much: what `price` times its shares buys, what is in use at one each.
double Esx::allocation(const Client& client, double price) const {
  const double funds = price * client.shares;
  const double pages =
      funds <= client.active ? funds : client.active + (funds - client.active) * (1 - settings_.idle_tax);
  return std::clamp(pages, client.low, client.high);
}

/// A guest may start when its reservation is unreserved memory. What is free does not matter: it is reclaimed
/// when it is touched.
void Esx::admit(const Snapshot& snapshot, Plan& plan) {
  const auto total = static_cast<double>(snapshot.host.total);
  double unreserved = total * (1 - settings_.high) - host_own_use(snapshot);
  for (const GuestSnapshot& guest : snapshot.guests)
    unreserved -= static_cast<double>(std::min(guest.limits.min, guest.memory));
  std::vector<std::string> granted;
  for (std::size_t i = 0; i < snapshot.reservations.size(); ++i) {
    const Reservation& wanted = snapshot.reservations[i];
    ReservationPlan& mine = plan.reservations[i];
    const bool before = std::ranges::find(granted_, wanted.id) != granted_.end();
    unreserved -= static_cast<double>(wanted.min);
    if (before || unreserved >= 0) {
      mine.state = GrantState::granted;
      mine.granted = wanted.min;
      granted.push_back(wanted.id);
    } else {
      mine.state = GrantState::denied;
      unreserved += static_cast<double>(wanted.min);
    }
  }
  granted_ = std::move(granted);
}

}  // namespace balloon::policy::peers
