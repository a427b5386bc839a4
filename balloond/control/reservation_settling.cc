// SPDX-License-Identifier: Apache-2.0
// What decisions and the disk make of the book's reservations.
#include <fmt/format.h>

#include <algorithm>

#include "balloond/control/reservation_book.h"
#include "base/bytes.h"
#include "policy/reservations.h"

namespace balloon::daemon {
namespace {

using Kind = ReservationOutcome::Kind;
using policy::GrantState;

/// Whose share of the log these lines use up: all reservations' together.
const log::Source kSource{"reservations"};

WallTime later(WallTime wall, std::chrono::nanoseconds by) {
  return wall + std::chrono::duration_cast<WallTime::duration>(by);
}

const policy::GuestSnapshot* find_guest(const std::vector<policy::GuestSnapshot>& guests,
                                        const std::string& name) {
  const auto guest = std::ranges::lower_bound(guests, name, {}, &policy::GuestSnapshot::name);
  return guest == guests.end() || guest->name != name ? nullptr : &*guest;
}

/// Why one was denied, by the figures that it was denied on.
std::string why_denied(const ReservationRequest& wish, Bytes kept_for_others, const policy::Snapshot& seen,
                       const policy::Plan& plan) {
  Bytes guaranteed = kept_for_others;
  for (const policy::GuestSnapshot& guest : seen.guests) guaranteed += guest.limits.min;
  if (guaranteed > plan.budget || wish.min > plan.budget - guaranteed) {
    return fmt::format("the host cannot hold {}: of the {} that guests may have, {} are guaranteed to others",
                       format_bytes(wish.min), format_bytes(plan.budget), format_bytes(guaranteed));
  }
  return fmt::format("{} cannot be freed within {} s", format_bytes(wish.min),
                     std::chrono::ceil<std::chrono::seconds>(wish.within).count());
}

/// What is said of the end of one, before why; where the reason says all: nothing.
std::string_view word_for(Kind kind) {
  switch (kind) {
    case Kind::refused:
    case Kind::name_taken:
      return "refused: ";
    case Kind::expired:
      return "expired: ";
    case Kind::unsaved:
      return "not granted: ";
    case Kind::granted:
    case Kind::released:
    case Kind::lapsed:
    case Kind::joined:
      return "";
  }
  return "";
}

/// Whether the guest that `wish` is for is among `guests`.
bool has_come(const ReservationRequest& wish, const policy::GuestSnapshot* guest) {
  return guest != nullptr && policy::can_take({.id = wish.id, .min = wish.min}, *guest);
}

ReservationOutcome too_much_boot_memory(const ReservationRequest& wish, Bytes taken, Bytes max) {
  return {.kind = Kind::refused,
          .reason = fmt::format("it is for a guest of {}, and of the {} of boot memory that policy admits "
                                "(admission.ram_allocation_ratio) {} are taken",
                                format_bytes(boot_memory_of(wish)), format_bytes(max), format_bytes(taken))};
}

}  // namespace

std::vector<policy::Reservation> ReservationBook::for_decision(
    const std::vector<policy::GuestSnapshot>& guests, std::optional<Bytes> boot_memory_max) {
  std::vector<policy::Reservation> wishes;
  Bytes boot_memory{};
  for (const policy::GuestSnapshot& guest : guests) boot_memory = add(boot_memory, guest.memory);
  News news;
  {
    const MutexLock lock(mutex_);
    ended_.forget(clock_.now());
    for (auto entry = entries_.begin(); entry != entries_.end();) {
      // What is being written down is not ended under the writer's hands.
      auto outcome = entry->changes.empty() ? end_of(*entry, guests, news) : std::nullopt;
      const ReservationRequest& wish = entry->record.wish;
      const Bytes with_it = add(boot_memory, boot_memory_of(wish));
      if (!outcome && boot_memory_max && with_it > *boot_memory_max && !entry->granted() && !entry->seen)
        outcome = too_much_boot_memory(wish, boot_memory, *boot_memory_max);
      if (outcome) {
        if (entry->granted()) revise();
        entry = end(entry, std::move(*outcome), news);
        continue;
      }
      if (!has_come(wish, find_guest(guests, wish.id))) boot_memory = with_it;
      entry->seen = true;
      const ReservationRecord& record = entry->record;
      wishes.push_back({.id = record.wish.id,
                        .min = record.wish.min,
                        .max = record.wish.max,
                        .priority = record.wish.priority,
                        .deadline = record.deadline,
                        .granted = entry->granted() ? record.granted : Bytes{0}});
      ++entry;
    }
  }
  tell(news);
  boot_memory_free_ = boot_memory_max;
  if (boot_memory_free_) *boot_memory_free_ -= std::min(boot_memory, *boot_memory_free_);
  return wishes;
}

std::optional<ReservationOutcome> ReservationBook::end_of(Entry& entry,
                                                          const std::vector<policy::GuestSnapshot>& guests,
                                                          News& news) const {
  const ReservationRequest& wish = entry.record.wish;
  const policy::GuestSnapshot* const guest = find_guest(guests, wish.id);
  const bool is_here = has_come(wish, guest);
  if (guest != nullptr && !entry.granted() && !entry.seen) {
    return ReservationOutcome{
        .kind = Kind::name_taken,
        .reason =
            fmt::format("a guest named '{}' is there already: a reservation is for one that is to come, "
                        "and a policy or a pin changes the size of one that runs",
                        wish.id)};
  }
  if (is_here && !entry.granted())
    return ReservationOutcome{.kind = Kind::joined, .reason = "its guest came before the memory"};
  if (is_here && guest->controllable)
    return ReservationOutcome{.kind = Kind::joined, .reason = "its guest has come"};
  if (guest != nullptr && !is_here && !std::exchange(entry.imitated, true)) {
    news.lines.warning(kSource,
                       "reservation {}: a guest of that name has {} of boot memory, and {} are reserved: it "
                       "is not taken for the one that is to come",
                       wish.id, format_bytes(guest->memory), format_bytes(wish.min));
  }
  if (entry.granted() && clock_.now() >= entry.record.lease_ends) {
    return ReservationOutcome{
        .kind = Kind::lapsed,
        .reason = fmt::format("its lease of {} has run out", format_bytes(entry.record.granted))};
  }
  return std::nullopt;
}

void ReservationBook::settle(const policy::Snapshot& seen, const policy::Plan& plan) {
  News news;
  {
    const MutexLock lock(mutex_);
    Bytes kept{};
    for (const policy::ReservationPlan& planned : plan.reservations) {
      kept += planned.granted;
      const auto entry = find_entry(planned.id);
      if (entry == entries_.end() || !entry->seen || entry->newest().is_granted()) continue;
      if (planned.state == GrantState::granted) {
        ReservationRecord as = entry->record;
        as.state = GrantState::granted;
        as.granted = planned.granted;
        grant(entry, as, std::move(entry->waiters), news);
      } else if (planned.state == GrantState::denied) {
        const Kind kind = entry->judged ? Kind::expired : Kind::refused;
        std::string why = why_denied(entry->record.wish, kept, seen, plan);
        end(entry, {.kind = kind, .record = {}, .reason = std::move(why)}, news);
      } else {
        entry->judged = true;
        entry->record.granted = planned.granted;
      }
    }
  }
  tell(news);
}

std::optional<KeptReservations> ReservationBook::unkept() const {
  const MutexLock lock(mutex_);
  if (kept_ == revision_) return std::nullopt;
  KeptReservations all{.revision = revision_, .ended = ended_.to_keep()};
  for (const Entry& entry : entries_) {
    const ReservationRecord& record = entry.newest();
    if (!record.is_granted()) continue;
    if (!entry.goes()) {
      all.grants.push_back(record);
    } else if (!record.wish.request_id.empty()) {
      all.ended.push_back({.outcome = {.kind = Kind::released, .record = record, .reason = "it was released"},
                           .at = clock_.now(),
                           .at_wall = clock_.wall()});
    }
  }
  return all;
}

void ReservationBook::kept(std::uint64_t revision) {
  failing_ = false;
  News news;
  {
    const MutexLock lock(mutex_);
    kept_ = revision;
    for (auto entry = entries_.begin(); entry != entries_.end();) entry = carry_out(entry, revision, news);
    tell_late(revision, std::nullopt, news);
  }
  tell(news);
  if (!news.answers.empty() && listener_) listener_();
}

void ReservationBook::not_kept(std::uint64_t revision, const std::string& why) {
  failing_ = true;
  News news;
  {
    const MutexLock lock(mutex_);
    for (auto entry = entries_.begin(); entry != entries_.end();) entry = give_up(entry, revision, why, news);
    tell_late(revision,
              ReservationOutcome{.kind = Kind::unsaved, .reason = "it cannot be written down: " + why}, news);
  }
  tell(news);
  if (!news.answers.empty() && listener_) listener_();
}

ReservationBook::Entries::iterator ReservationBook::end(Entries::iterator entry, ReservationOutcome outcome,
                                                        News& news) {
  outcome.record = entry->record;
  ++counters_.ended.at(static_cast<std::size_t>(outcome.kind) - 1);
  if (outcome.kind == Kind::joined && entry->granted()) counters_.used_bytes += entry->record.granted.count();
  const std::string& id = outcome.record.wish.id;
  if (outcome.kind == Kind::lapsed) {
    news.lines.warning(kSource, "reservation {}: {}{}", id, word_for(outcome.kind), outcome.reason);
  } else {
    news.lines.info(kSource, "reservation {}: {}{}", id, word_for(outcome.kind), outcome.reason);
  }
  ended_.add({.outcome = outcome, .at = clock_.now(), .at_wall = clock_.wall()});
  for (Change& each : entry->changes) entry->waiters.splice(entry->waiters.end(), each.waiters);
  if (!entry->waiters.empty()) news.answers.push_back({std::move(entry->waiters), std::move(outcome)});
  return entries_.erase(entry);
}

/// For the first time, or anew.
void ReservationBook::grant(Entries::iterator entry, const ReservationRecord& as, std::list<Waiter> waiters,
                            News& news) {
  Change granted{.kind = Kind::granted, .record = as, .waiters = std::move(waiters)};
  granted.record.lease_ends = clock_.now() + as.wish.lease;
  granted.record.lease_until = later(clock_.wall(), as.wish.lease);
  entry->waiters.clear();
  change(entry, std::move(granted), news);
}

void ReservationBook::change(Entries::iterator entry, Change change, News& news) {
  revise();
  change.revision = revision_;
  entry->changes.push_back(std::move(change));
  if (!keep_) carry_out(entry, revision_, news);
}

ReservationBook::Entries::iterator ReservationBook::carry_out(Entries::iterator entry, std::uint64_t revision,
                                                              News& news) {
  while (!entry->changes.empty() && entry->changes.front().revision <= revision) {
    if (entry->changes.front().kind == Kind::released)
      return end(entry, {.kind = Kind::released, .record = {}, .reason = "it was released"}, news);
    Change granted = std::move(entry->changes.front());
    entry->changes.pop_front();
    if (!entry->granted()) {
      granted.record.since = clock_.now();
      ++counters_.granted;
      counters_.granted_bytes += granted.record.granted.count();
      news.lines.info(kSource, "reservation {}: {} granted", granted.record.wish.id,
                      format_bytes(granted.record.granted));
    }
    entry->record = granted.record;
    if (!granted.waiters.empty())
      news.answers.push_back({std::move(granted.waiters),
                              {.kind = Kind::granted, .record = std::move(granted.record), .reason = {}}});
  }
  return std::next(entry);
}

ReservationBook::Entries::iterator ReservationBook::give_up(Entries::iterator entry, std::uint64_t revision,
                                                            const std::string& why, News& news) {
  ReservationOutcome outcome{
      .kind = Kind::unsaved, .record = {}, .reason = "it cannot be written down: " + why};
  while (!entry->changes.empty() && entry->changes.front().revision <= revision) {
    if (!entry->granted()) return end(entry, std::move(outcome), news);
    outcome.record = entry->record;
    news.answers.push_back({std::move(entry->changes.front().waiters), outcome});
    entry->changes.pop_front();
  }
  return std::next(entry);
}

void ReservationBook::tell_late(std::uint64_t revision, const std::optional<ReservationOutcome>& outcome,
                                News& news) {
  for (auto late = late_.begin(); late != late_.end();) {
    if (late->revision > revision) {
      ++late;
      continue;
    }
    if (outcome) late->outcome = *outcome;
    Told told{.waiters = {}, .outcome = std::move(late->outcome)};
    told.waiters.push_back(std::move(late->waiter));
    news.answers.push_back(std::move(told));
    late = late_.erase(late);
  }
}

/// What is to be kept is no longer what was.
void ReservationBook::revise() {
  ++revision_;
  if (keep_) keep_();
}

void ReservationBook::tell(const News& news) {
  for (const Told& each : news.answers) {
    for (const Waiter& waiter : each.waiters) waiter.tell(each.outcome);
  }
}

}  // namespace balloon::daemon
