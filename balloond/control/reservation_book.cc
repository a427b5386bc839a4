#include "balloond/control/reservation_book.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

using Kind = ReservationOutcome::Kind;
using policy::GrantState;

WallTime later(WallTime wall, std::chrono::nanoseconds by) {
  return wall + std::chrono::duration_cast<WallTime::duration>(by);
}

bool has_come(const std::vector<policy::GuestSnapshot>& guests, const std::string& id, bool with_driver) {
  const auto guest = std::ranges::lower_bound(guests, id, {}, &policy::GuestSnapshot::name);
  return guest != guests.end() && guest->name == id && (guest->controllable || !with_driver);
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

}  // namespace

std::expected<void, ReservationBook::Refusal> ReservationBook::ask(const ReservationRequest& request,
                                                                   const void* caller, Tell tell_caller) {
  std::vector<News> news;
  {
    const std::lock_guard lock(mutex_);
    const Time now = clock_.now();
    auto entry = find(request.id);
    if (entry != entries_.end()) {
      const ReservationRequest& wish = entry->record.wish;
      if (wish.min != request.min || wish.max != request.max) return std::unexpected(Refusal::already_exists);
      entry->record.wish.lease = request.lease;
    } else {
      if (entries_.size() >= kMost) return std::unexpected(Refusal::too_many);
      entry =
          entries_.insert(entries_.end(), {.record = {.wish = request,
                                                      .deadline = now + request.within,
                                                      .deadline_wall = later(clock_.wall(), request.within)},
                                           .waiters = {}});
    }
    entry->waiters.push_back({caller, std::move(tell_caller)});
    if (entry->record.state == GrantState::granted) grant(*entry, entry->record.granted, news);
  }
  tell(news);
  if (listener_) listener_();
  return {};
}

void ReservationBook::withdraw(const void* caller) {
  std::vector<News> news;
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const bool waited =
        std::erase_if(entry->waiters, [&](const Waiter& waiter) { return waiter.caller == caller; }) > 0;
    if (waited && entry->waiters.empty() && entry->record.state == GrantState::pending) {
      log::info("reservation {}: withdrawn, nobody waits for it any more", entry->record.wish.id);
      entry = end(entry, {.kind = Kind::released, .record = {}, .reason = {}}, news);
    } else {
      ++entry;
    }
  }
}

bool ReservationBook::release(const std::string& id) {
  std::vector<News> news;
  {
    const std::lock_guard lock(mutex_);
    const auto entry = find(id);
    if (entry == entries_.end()) return false;
    end(entry, {.kind = Kind::released, .record = {}, .reason = "it was released"}, news);
  }
  tell(news);
  if (listener_) listener_();
  return true;
}

std::vector<ReservationRecord> ReservationBook::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<ReservationRecord> records;
  records.reserve(entries_.size());
  for (const Entry& entry : entries_) records.push_back(entry.record);
  return records;
}

std::vector<policy::Reservation> ReservationBook::for_decision(
    const std::vector<policy::GuestSnapshot>& guests) {
  std::vector<policy::Reservation> wishes;
  std::vector<News> news;
  {
    const std::lock_guard lock(mutex_);
    const Time now = clock_.now();
    const std::set<std::string> ended = std::move(ended_);
    ended_.clear();
    for (auto entry = entries_.begin(); entry != entries_.end();) {
      const ReservationRecord& record = entry->record;
      const ReservationRequest& wish = record.wish;
      const bool granted = record.state == GrantState::granted;
      if (has_come(guests, wish.id, granted)) {
        log::info("reservation {}: its guest has come", wish.id);
        entry = end(entry, {.kind = Kind::joined, .record = {}, .reason = "its guest came before the memory"},
                    news);
        continue;
      }
      if (granted && now >= record.lease_ends) {
        log::warning("reservation {}: its lease of {} has run out", wish.id, format_bytes(record.granted));
        entry = end(entry, {.kind = Kind::released, .record = {}, .reason = "its lease has run out"}, news);
        continue;
      }
      entry->seen = !ended.contains(wish.id);
      if (entry->seen)
        wishes.push_back({.id = wish.id,
                          .min = wish.min,
                          .max = wish.max,
                          .priority = wish.priority,
                          .deadline = record.deadline});
      ++entry;
    }
  }
  tell(news);
  return wishes;
}

void ReservationBook::settle(const policy::Snapshot& seen, const policy::Plan& plan) {
  std::vector<News> news;
  {
    const std::lock_guard lock(mutex_);
    Bytes kept = 0;
    for (const policy::ReservationPlan& planned : plan.reservations) {
      kept += planned.granted;
      const auto entry = find(planned.id);
      if (entry == entries_.end() || !entry->seen || entry->record.state != GrantState::pending) continue;
      if (planned.state == GrantState::granted) {
        log::info("reservation {}: {} granted", planned.id, format_bytes(planned.granted));
        grant(*entry, planned.granted, news);
      } else if (planned.state == GrantState::denied) {
        const Kind kind = entry->judged ? Kind::expired : Kind::refused;
        std::string why = why_denied(entry->record.wish, kept, seen, plan);
        log::info("reservation {}: {}: {}", planned.id, kind == Kind::expired ? "expired" : "refused", why);
        end(entry, {.kind = kind, .record = {}, .reason = std::move(why)}, news);
      } else {
        entry->judged = true;
        entry->record.granted = planned.granted;
      }
    }
  }
  tell(news);
}

ReservationBook::Entries::iterator ReservationBook::find(const std::string& id) {
  return std::ranges::find(entries_, id,
                           [](const Entry& entry) -> const std::string& { return entry.record.wish.id; });
}

/// Its end, and what those who wait for it will be told.
ReservationBook::Entries::iterator ReservationBook::end(Entries::iterator entry, ReservationOutcome outcome,
                                                        std::vector<News>& news) {
  outcome.record = entry->record;
  ended_.insert(entry->record.wish.id);
  if (!entry->waiters.empty()) news.push_back({std::move(entry->waiters), std::move(outcome)});
  return entries_.erase(entry);
}

void ReservationBook::grant(Entry& entry, Bytes granted, std::vector<News>& news) {
  ReservationRecord& record = entry.record;
  record.state = GrantState::granted;
  record.granted = granted;
  record.lease_ends = clock_.now() + record.wish.lease;
  record.lease_until = later(clock_.wall(), record.wish.lease);
  if (entry.waiters.empty()) return;
  news.push_back({std::move(entry.waiters), {.kind = Kind::granted, .record = record, .reason = {}}});
  entry.waiters.clear();
}

void ReservationBook::tell(const std::vector<News>& news) {
  for (const News& each : news) {
    for (const Waiter& waiter : each.waiters) waiter.tell(each.outcome);
  }
}

}  // namespace balloon::daemon
