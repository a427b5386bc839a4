// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/hypeman.h"

#include <algorithm>

#include "policy/peers/plans.h"

namespace balloon::policy::peers {
namespace {

/// /proc/pressure/memory has two decimals of a percent: less reads as zero.
constexpr double kLeastPressure = 0.0001;

Bytes room(Bytes assigned, Bytes floor) { return assigned - floor; }

}  // namespace

Plan Hypeman::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  grant_unseen(snapshot, Promise::maximum, plan);
  tracks_.align(snapshot);
  gather(snapshot);

  const HostSnapshot& host = snapshot.host;
  const double available =
      host.total == Bytes{0} ? 0
                             : 100.0 * static_cast<double>(host.available) / static_cast<double>(host.total);
  const bool stressed = host.pressure_some >= kLeastPressure;
  pressure_ = pressure_ ? available < settings_.pressure_low_watermark_available_percent || stressed
                        : available <= settings_.pressure_high_watermark_available_percent || stressed;
  plan.state = pressure_ ? HostState::tight : HostState::normal;

  share(wanted(host));
  for (const Candidate& candidate : candidates_) {
    const Bytes target = step(candidate, snapshot.now);
    if (target == candidate.current) continue;
    ask(snapshot.guests[candidate.guest], static_cast<double>(target), plan.guests[candidate.guest]);
    tracks_[candidate.guest].applied_at = snapshot.now;
  }
  return plan;
}

void Hypeman::gather(const Snapshot& snapshot) {
  candidates_.clear();
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    if (!guest.controllable) continue;
    const auto part =
        static_cast<Bytes>(static_cast<double>(guest.memory) * settings_.protected_floor_percent / 100);
    const Bytes floor = std::min(std::max(settings_.protected_floor_min_bytes, part), guest.memory);
    candidates_.push_back({i, guest.memory, std::min(guest.target, guest.memory), floor, guest.memory});
  }
}

/// What guests should have given altogether. It is not counted up from what they gave before: once the host
/// has its low watermark again, nothing is wanted any more.
Bytes Hypeman::wanted(const HostSnapshot& host) const {
  if (!pressure_) return Bytes{0};
  const auto watermark = static_cast<Bytes>(static_cast<double>(host.total) *
                                            settings_.pressure_low_watermark_available_percent / 100);
  if (watermark > host.available) return watermark - host.available;
  if (host.pressure_some < kLeastPressure) return Bytes{0};
  Bytes given{};
  for (const Candidate& candidate : candidates_) given += candidate.assigned - candidate.current;
  return given;
}

void Hypeman::share(Bytes reclaim) {
  Bytes most{};
  for (const Candidate& candidate : candidates_) most += room(candidate.assigned, candidate.floor);
  reclaim = std::min(reclaim, most);
  if (reclaim == Bytes{0}) return;
  Bytes rest = reclaim;
  for (Candidate& candidate : candidates_) {
    const double part =
        static_cast<double>(room(candidate.assigned, candidate.floor)) / static_cast<double>(most);
    const Bytes mine = std::min({static_cast<Bytes>(static_cast<double>(reclaim) * part), rest,
                                 room(candidate.assigned, candidate.floor)});
    candidate.planned = candidate.assigned - mine;
    rest -= mine;
  }
  for (Candidate& candidate : candidates_) {
    const Bytes extra = std::min(rest, candidate.planned - candidate.floor);
    candidate.planned -= extra;
    rest -= extra;
  }
}

/// The target to set now: the planned one, unless too near or too soon, and no further than one step.
Bytes Hypeman::step(const Candidate& candidate, Time now) const {
  const bool grow = candidate.planned > candidate.current;
  const Bytes change = grow ? candidate.planned - candidate.current : candidate.current - candidate.planned;
  const auto& applied_at = tracks_[candidate.guest].applied_at;
  Bytes target = candidate.current;
  if (change >= settings_.min_adjustment_bytes &&
      !(applied_at && now - *applied_at < settings_.per_vm_cooldown)) {
    const Bytes by = std::min(change, settings_.per_vm_max_step_bytes);
    target = grow ? candidate.current + by : candidate.current - by;
  }
  return std::clamp(target, candidate.floor, candidate.assigned);
}

}  // namespace balloon::policy::peers
