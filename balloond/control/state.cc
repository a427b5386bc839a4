// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/state.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/bytes.h"
#include "policy/explain.h"
#include "policy/holdings.h"

namespace balloon::daemon {

const GuestStatus* State::find(const std::string& name) const {
  const auto by_name = [](const GuestStatus& guest) -> const std::string& { return guest.record.name; };
  const auto guest = std::ranges::lower_bound(guests, name, {}, by_name);
  return guest == guests.end() || guest->record.name != name ? nullptr : &*guest;
}

namespace {

std::string time_text(WallTime time) {
  return fmt::format("{:%FT%TZ}", std::chrono::time_point_cast<std::chrono::seconds>(time));
}

/// Why the size of a guest that is not moved is held; empty where the plan says all about that.
std::string why_held(const GuestStatus& guest, const State& state) {
  const GuestRecord& record = guest.record;
  const auto wall = [&](Time time) {
    return time_text(state.wall + std::chrono::duration_cast<WallTime::duration>(time - state.at));
  };
  switch (state_of(guest)) {
    case GuestState::disconnected:
      return fmt::format("its VMM is not connected (since {})", wall(record.left_at));
    case GuestState::contested: {
      const std::string suspects = record.contest->suspects.value_or("");
      return fmt::format(
          "somebody else moved its balloon from {} to {}{}, and holds it: it is left alone for {} s more, "
          "until {}",
          format_bytes(record.contest->from), format_bytes(record.contest->to),
          suspects.empty() ? "" : fmt::format(" (on this host runs {})", suspects),
          std::chrono::ceil<std::chrono::seconds>(*guest.contested_until - state.at).count(),
          wall(*guest.contested_until));
    }
    case GuestState::paused:
      return record.balloon.obstacle;
    case GuestState::left_alone:
      return "its balloon is left alone: " + record.balloon.obstacle;
    case GuestState::booting:
      return record.balloon.driver_ready ? "its balloon driver has sent no statistics yet"
                                         : "its balloon driver is not up";
    case GuestState::stale:
      return record.said ? "" : "its balloon driver has sent no statistics";
    default:
      return "";
  }
}

}  // namespace

std::string explain(const GuestStatus& guest, const State& state) {
  const GuestRecord& record = guest.record;
  std::string text =
      policy::explain(guest.plan, guest.limits, guest.actual, state.budget, why_held(guest, state));
  if (!state.not_applied.empty()) text += fmt::format(" This is not applied: {}.", state.not_applied);
  if (!record.credit.is_full()) {
    text += fmt::format(" Its sizes count {} times halved: its process cannot have what it claims.",
                        record.credit.halvings);
  }
  if (record.unanswered) {
    text += fmt::format(" Its VMM has not answered a target for {} s.",
                        std::chrono::floor<std::chrono::seconds>(state.at - *record.unanswered).count());
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

/// What keeps the guest from less than its floor.
std::string_view binds_floor(const GuestStatus& guest) {
  return guest.plan.state == policy::GuestState::controlled ? "its minimum" : word_of(state_of(guest));
}

std::string explain_infeasible(const State& state) {
  std::vector<const GuestStatus*> largest;
  Bytes all = state.reserved;
  std::size_t held = 0;
  for (const GuestStatus& guest : state.guests) {
    largest.push_back(&guest);
    all += floor_of(guest);
    held += policy::is_promised(guest.plan.state) ? 0 : 1;
  }
  std::ranges::stable_sort(largest, std::ranges::greater(),
                           [](const GuestStatus* guest) { return floor_of(*guest); });
  constexpr std::size_t kNamed = 3;
  std::string names;
  for (std::size_t i = 0; i < std::min(kNamed, largest.size()); ++i) {
    names += fmt::format("{}{} ({}, {})", i == 0 ? "" : ", ", largest[i]->record.name,
                         format_bytes(floor_of(*largest[i])), binds_floor(*largest[i]));
  }
  return fmt::format(
      "the guaranteed minimums of {} guests{}{} are {} together, and guests may have {}. The largest: {}. "
      "Lower minimums in the policy, end reservations, or move guests away",
      state.guests.size(),
      held == 0 ? "" : fmt::format(" (for {} of them what they count with, as they cannot be moved)", held),
      state.reserved == Bytes{0} ? "" : fmt::format(" and reservations of {}", format_bytes(state.reserved)),
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
