#include "balloond/control/reservation_book.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

using Kind = ReservationOutcome::Kind;
using policy::GrantState;

/// Whose share of the log these lines use up: all reservations' together.
const log::Source kSource{"reservations"};

WallTime later(WallTime wall, std::chrono::nanoseconds by) {
  return wall + std::chrono::duration_cast<WallTime::duration>(by);
}

bool has_come(const std::vector<policy::GuestSnapshot>& guests, const std::string& id, bool with_driver) {
  const auto guest = std::ranges::lower_bound(guests, id, {}, &policy::GuestSnapshot::name);
  return guest != guests.end() && guest->name == id && (guest->controllable || !with_driver);
}

/// A guest that was there when the reservation was first looked at did not come in the meantime.
std::string why_joined(const std::string& id, bool looked_at_before) {
  if (looked_at_before) return "its guest came before the memory";
  return fmt::format(
      "a guest named '{}' is there already: a reservation is for one that is to come, and a policy or a pin "
      "changes the size of one that runs",
      id);
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

bool ReservationBook::Entry::is_waited_for() const {
  return !waiters.empty() ||
         std::ranges::any_of(changes, [](const Change& each) { return !each.waiters.empty(); });
}

void ReservationBook::restore(const std::vector<ReservationRecord>& grants) {
  const std::lock_guard lock(mutex_);
  for (const ReservationRecord& record : grants) entries_.push_back({.record = record});
}

void ReservationBook::keep_by(std::function<void()> changed) {
  const std::lock_guard lock(mutex_);
  keep_ = std::move(changed);
  revise();
}

std::expected<void, ReservationBook::Refusal> ReservationBook::ask(const ReservationRequest& request,
                                                                   const void* caller, Tell tell_caller) {
  News news;
  {
    const std::lock_guard lock(mutex_);
    auto entry = find(request.id);
    if (entry != entries_.end()) {
      const ReservationRequest& wish = entry->record.wish;
      if (wish.min != request.min || wish.max != request.max) return std::unexpected(Refusal::already_exists);
    } else {
      if (entries_.size() >= kMost) return std::unexpected(Refusal::too_many);
      entry = entries_.insert(entries_.end(),
                              {.record = {.wish = request,
                                          .since = clock_.now(),
                                          .deadline = clock_.now() + request.within,
                                          .deadline_wall = later(clock_.wall(), request.within)}});
    }
    std::list<Waiter> waiters;
    waiters.push_back({caller, std::move(tell_caller)});
    ReservationRecord as = entry->newest();
    as.wish.lease = request.lease;
    if (as.state == GrantState::granted) {
      grant(entry, as, std::move(waiters), news);
    } else {
      entry->record = as;
      entry->waiters.splice(entry->waiters.end(), waiters);
    }
  }
  tell(news);
  if (listener_) listener_();
  return {};
}

void ReservationBook::withdraw(const void* caller) {
  const auto is_callers = [&](const Waiter& waiter) { return waiter.caller == caller; };
  News news;  // of nobody: what ends has no waiters
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    std::size_t waited = std::erase_if(entry->waiters, is_callers);
    for (Change& each : entry->changes) waited += std::erase_if(each.waiters, is_callers);
    if (waited == 0 || entry->granted() || entry->is_waited_for()) {
      ++entry;
      continue;
    }
    news.lines.info(kSource, "reservation {}: withdrawn, nobody waits for it any more",
                    entry->record.wish.id);
    if (!entry->changes.empty()) revise();
    entry = end(entry, {.kind = Kind::released, .record = {}, .reason = {}}, news);
  }
}

bool ReservationBook::release(const std::string& id, Tell tell_caller) {
  News news;
  {
    const std::lock_guard lock(mutex_);
    const auto entry = find(id);
    if (entry == entries_.end()) return false;
    Change gone{.kind = Kind::released, .record = entry->newest()};
    gone.waiters.push_back({nullptr, std::move(tell_caller)});
    if (entry->newest().state == GrantState::granted) {
      change(entry, std::move(gone), news);
    } else {
      entry->waiters.splice(entry->waiters.end(), gone.waiters);
      end(entry, {.kind = Kind::released, .record = {}, .reason = "it was released"}, news);
    }
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
  News news;
  {
    const std::lock_guard lock(mutex_);
    const Time now = clock_.now();
    const std::set<std::string> ended = std::move(ended_);
    ended_.clear();
    for (auto entry = entries_.begin(); entry != entries_.end();) {
      const ReservationRecord& record = entry->record;
      const ReservationRequest& wish = record.wish;
      // What is being written down is not ended under the writer's hands.
      const bool at_rest = entry->changes.empty();
      if (at_rest && has_come(guests, wish.id, entry->granted())) {
        news.lines.info(kSource, "reservation {}: its guest has come", wish.id);
        if (entry->granted()) revise();
        entry = end(entry, {.kind = Kind::joined, .record = {}, .reason = why_joined(wish.id, entry->seen)},
                    news);
        continue;
      }
      if (at_rest && entry->granted() && now >= record.lease_ends) {
        news.lines.warning(kSource, "reservation {}: its lease of {} has run out", wish.id,
                           format_bytes(record.granted));
        revise();
        entry = end(entry, {.kind = Kind::lapsed, .record = {}, .reason = "its lease has run out"}, news);
        continue;
      }
      entry->seen = !ended.contains(wish.id);
      if (entry->seen)
        wishes.push_back({.id = wish.id,
                          .min = wish.min,
                          .max = wish.max,
                          .priority = wish.priority,
                          .deadline = record.deadline,
                          .granted = entry->granted() ? record.granted : 0});
      ++entry;
    }
  }
  tell(news);
  return wishes;
}

void ReservationBook::settle(const policy::Snapshot& seen, const policy::Plan& plan) {
  News news;
  {
    const std::lock_guard lock(mutex_);
    Bytes kept = 0;
    for (const policy::ReservationPlan& planned : plan.reservations) {
      kept += planned.granted;
      const auto entry = find(planned.id);
      if (entry == entries_.end() || !entry->seen || entry->newest().state != GrantState::pending) continue;
      if (planned.state == GrantState::granted) {
        ReservationRecord as = entry->record;
        as.state = GrantState::granted;
        as.granted = planned.granted;
        grant(entry, as, std::move(entry->waiters), news);
      } else if (planned.state == GrantState::denied) {
        const Kind kind = entry->judged ? Kind::expired : Kind::refused;
        std::string why = why_denied(entry->record.wish, kept, seen, plan);
        news.lines.info(kSource, "reservation {}: {}: {}", planned.id,
                        kind == Kind::expired ? "expired" : "refused", why);
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
  const std::lock_guard lock(mutex_);
  if (kept_ == revision_) return std::nullopt;
  KeptReservations all{.revision = revision_};
  for (const Entry& entry : entries_) {
    const bool goes =
        std::ranges::any_of(entry.changes, [](const Change& each) { return each.kind == Kind::released; });
    if (!goes && entry.newest().state == GrantState::granted) all.grants.push_back(entry.newest());
  }
  return all;
}

void ReservationBook::kept(std::uint64_t revision) {
  failing_ = false;
  News news;
  {
    const std::lock_guard lock(mutex_);
    kept_ = revision;
    for (auto entry = entries_.begin(); entry != entries_.end();) entry = carry_out(entry, revision, news);
  }
  tell(news);
  if (!news.answers.empty() && listener_) listener_();
}

void ReservationBook::not_kept(std::uint64_t revision, const std::string& why) {
  failing_ = true;
  News news;
  {
    const std::lock_guard lock(mutex_);
    for (auto entry = entries_.begin(); entry != entries_.end();) entry = give_up(entry, revision, why, news);
  }
  tell(news);
  if (!news.answers.empty() && listener_) listener_();
}

ReservationBook::Entries::iterator ReservationBook::find(const std::string& id) {
  return std::ranges::find(entries_, id,
                           [](const Entry& entry) -> const std::string& { return entry.record.wish.id; });
}

ReservationBook::Entries::iterator ReservationBook::end(Entries::iterator entry, ReservationOutcome outcome,
                                                        News& news) {
  outcome.record = entry->record;
  ++counters_.ended.at(static_cast<std::size_t>(outcome.kind) - 1);
  if (outcome.kind == Kind::joined && entry->granted()) counters_.used_bytes += entry->record.granted;
  ended_.insert(entry->record.wish.id);
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
      counters_.granted_bytes += granted.record.granted;
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

/// What is to be kept is no longer what was.
void ReservationBook::revise() {
  ++revision_;
  if (keep_) keep_();
}

void ReservationBook::tell(const News& news) {
  for (const Answer& each : news.answers) {
    for (const Waiter& waiter : each.waiters) waiter.tell(each.outcome);
  }
}

}  // namespace balloon::daemon
