// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/state.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/bytes.h"
#include "policy/explain.h"

namespace balloon::daemon {

const GuestStatus* State::find(const std::string& name) const {
  const auto by_name = [](const GuestStatus& guest) -> const std::string& { return guest.record.name; };
  const auto guest = std::ranges::lower_bound(guests, name, {}, by_name);
  return guest == guests.end() || guest->record.name != name ? nullptr : &*guest;
}

namespace {

/// Of a guest whose balloon is not the daemon's to move, whatever its statistics.
std::string explain_left_alone(const GuestStatus& guest) {
  const GuestRecord& record = guest.record;
  return fmt::format("{} has {}. {}: its size is held, at a target of {}.", record.name,
                     format_bytes(guest.actual),
                     !record.connected              ? "Its VMM is not connected"
                     : !record.balloon.driver_ready ? "Its balloon driver is not up"
                                                    : "Its balloon is in other hands",
                     format_bytes(record.target));
}

/// Of a guest that never said what it uses, nothing is told as if it were known.
std::string explain_silent(const GuestStatus& guest) {
  const GuestRecord& record = guest.record;
  return fmt::format(
      "{} has {}. {}, so what it uses and needs is not known: its size is held, at a target of {}.",
      record.name, format_bytes(guest.actual),
      !record.connected              ? "Its VMM is not connected"
      : !record.balloon.driver_ready ? "Its balloon driver is not up yet"
                                     : "Its balloon driver has sent no statistics",
      format_bytes(record.target));
}

}  // namespace

std::string explain(const GuestStatus& guest, const State& state) {
  const GuestRecord& record = guest.record;
  if (!record.balloon.obstacle.empty()) {
    return fmt::format("{} has {}, and its balloon is left alone: {}. It counts by what it holds.",
                       record.name, format_bytes(guest.actual), record.balloon.obstacle);
  }
  std::string text = !record.said && !record.pin ? explain_silent(guest)
                     : guest.plan.state == policy::GuestState::disconnected
                         ? explain_left_alone(guest)
                         : policy::explain(guest.plan, guest.limits, guest.actual, state.budget);
  if (!state.not_applied.empty()) text += fmt::format(" This is not applied: {}.", state.not_applied);
  if (!record.credit.is_full()) {
    text += fmt::format(" Its sizes count {} times halved: its process cannot have what it claims.",
                        record.credit.halvings);
  }
  if (guest.contested_until) {
    const auto left = std::chrono::ceil<std::chrono::seconds>(*guest.contested_until - state.at);
    const auto until = std::chrono::time_point_cast<std::chrono::seconds>(
        state.wall + std::chrono::duration_cast<WallTime::duration>(left));
    const std::string suspects = record.contest->suspects.value_or("");
    text += fmt::format(
        " Somebody else moved its balloon from {} to {}{}, and holds it: it is left alone for {} s more, "
        "until "
        "{:%FT%TZ}.",
        format_bytes(record.contest->from), format_bytes(record.contest->to),
        suspects.empty() ? "" : fmt::format(" (on this host runs {})", suspects), left.count(), until);
  }
  if (!record.complaint.empty()) text += " Its newest statistics make no sense: " + record.complaint + ".";
  return text;
}

Bytes floor_of(const GuestStatus& guest) {
  switch (guest.plan.state) {
    case policy::GuestState::controlled:
      return guest.limits.min;
    case policy::GuestState::pinned:
      return std::max(guest.plan.share, guest.actual);
    default:
      return guest.plan.share;
  }
}

namespace {

std::string explain_infeasible(const State& state) {
  std::vector<const GuestStatus*> largest;
  Bytes all = state.reserved;
  std::size_t held = 0;
  for (const GuestStatus& guest : state.guests) {
    largest.push_back(&guest);
    all += floor_of(guest);
    held += guest.plan.state == policy::GuestState::controlled ? 0 : 1;
  }
  std::ranges::stable_sort(largest, std::ranges::greater(),
                           [](const GuestStatus* guest) { return floor_of(*guest); });
  constexpr std::size_t kNamed = 3;
  std::string names;
  for (std::size_t i = 0; i < std::min(kNamed, largest.size()); ++i) {
    names += fmt::format("{}{} ({})", i == 0 ? "" : ", ", largest[i]->record.name,
                         format_bytes(floor_of(*largest[i])));
  }
  return fmt::format(
      "the guaranteed minimums of {} guests{}{} are {} together, and guests may have {}. The largest: {}. "
      "Lower minimums in the policy, end reservations, or move guests away",
      state.guests.size(),
      held == 0 ? "" : fmt::format(" (for {} of them what they hold, as they cannot be moved)", held),
      state.reserved == 0 ? "" : fmt::format(" and reservations of {}", format_bytes(state.reserved)),
      format_bytes(all), format_bytes(state.budget), names);
}

}  // namespace

std::string explain_host(const State& state) {
  if (state.host_state <= policy::HostState::normal) return "";
  if (state.host_state == policy::HostState::infeasible) return explain_infeasible(state);
  Bytes needs = state.reserved;
  for (const GuestStatus& guest : state.guests) needs += guest.plan.need;
  if (state.host_state == policy::HostState::tight && needs > state.budget) {
    return fmt::format("guests and reservations need {}, and guests may have {}: shares go by weight",
                       format_bytes(needs), format_bytes(state.budget));
  }
  const policy::HostSnapshot& memory = state.host.memory;
  return fmt::format(
      "{} of {} are available on the host, and some task waits for memory {:.0f} % of the time",
      format_bytes(policy::obtainable(memory)), format_bytes(memory.total), memory.pressure_some * 100);
}

void StateStore::publish(std::shared_ptr<const State> state) {
  std::vector<std::shared_ptr<Reader>> readers;
  {
    const MutexLock lock(mutex_);
    newest_ = std::move(state);
    std::erase_if(readers_, [](const std::weak_ptr<Reader>& reader) { return reader.expired(); });
    for (const auto& reader : readers_) {
      if (auto alive = reader.lock()) readers.push_back(std::move(alive));
    }
  }
  for (const auto& reader : readers) reader->state_changed();
}

std::shared_ptr<const State> StateStore::newest() const {
  const MutexLock lock(mutex_);
  return newest_;
}

void StateStore::subscribe(std::weak_ptr<Reader> reader) {
  const MutexLock lock(mutex_);
  readers_.push_back(std::move(reader));
}

}  // namespace balloon::daemon
