// SPDX-License-Identifier: Apache-2.0
// What callers ask of the book. What decisions and the disk make of it is in reservation_settling.cc.
#include "balloond/control/reservation_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "balloond/control/token.h"

namespace balloon::daemon {
namespace {

using Refusal = ReservationRefusal;

std::unexpected<Refusal> refuse(Refusal::Kind kind, std::string reason) {
  return std::unexpected(Refusal{kind, std::move(reason)});
}

std::unexpected<Refusal> refuse_stranger(const ReservationRecord& record) {
  return refuse(Refusal::Kind::not_yours,
                fmt::format("reservation {} is {}'s: this takes the token that Reserve answered, or an "
                            "operator who forces it",
                            record.wish.id, record.wish.owner));
}

std::unexpected<Refusal> refuse_unknown() { return refuse(Refusal::Kind::not_found, ""); }

}  // namespace

bool ReservationBook::Entry::is_waited_for() const {
  return record.wish.detached || !waiters.empty() ||
         std::ranges::any_of(changes, [](const Change& each) { return !each.waiters.empty(); });
}

bool ReservationBook::Entry::goes() const {
  return std::ranges::any_of(changes, [](const Change& each) { return each.kind == Kind::released; });
}

void ReservationBook::restore(const KeptReservations& all) {
  const MutexLock lock(mutex_);
  for (const ReservationRecord& record : all.grants) {
    entries_.push_back({.record = record});
    entries_.back().record.number = ++asked_;
  }
  for (const EndedReservation& ended : all.ended) ended_.add(ended);
}

void ReservationBook::keep_by(std::function<void()> changed) {
  const MutexLock lock(mutex_);
  keep_ = std::move(changed);
  revise();
}

ReservationBook::Answer<ReservationRecord> ReservationBook::ask(const ReservationRequest& request,
                                                                const void* caller, Tell tell_caller) {
  News news;
  ReservationRecord now;
  {
    const MutexLock lock(mutex_);
    const auto found = entry_of(request);
    if (!found) return std::unexpected(found.error());
    now = (*found)->record;
    if (tell_caller) wait_with(*found, {caller, std::move(tell_caller)}, news);
  }
  tell(news);
  if (listener_) listener_();
  return now;
}

/// The reservation that the request is about: the one it made before, or a new one.
ReservationBook::Answer<ReservationBook::Entries::iterator> ReservationBook::entry_of(
    const ReservationRequest& request) {
  const auto other_wish = [&](const ReservationRequest& wish) {
    return refuse(Refusal::Kind::taken,
                  fmt::format("the same request_id was for reservation {} with other sizes or another "
                              "priority: another wish takes another request_id",
                              wish.id));
  };
  if (!request.request_id.empty()) {
    const auto same = std::ranges::find_if(entries_, [&](const Entry& entry) {
      return entry.record.wish.uid == request.uid && entry.record.wish.request_id == request.request_id;
    });
    if (same != entries_.end()) {
      const ReservationRequest& wish = same->record.wish;
      if (!wish.wants_the_same(request)) return other_wish(wish);
      if (same->goes()) return refuse(Refusal::Kind::ended, "it was released");
      same->record.wish.detached |= request.detached;
      return same;
    }
    if (const EndedReservation* const ended = ended_.grant_of(request.uid, request.request_id)) {
      const ReservationRequest& wish = ended->outcome.record.wish;
      if (!wish.wants_the_same(request)) return other_wish(wish);
      return refuse(Refusal::Kind::ended,
                    fmt::format("the reservation of this request_id has ended: {}", ended->outcome.reason));
    }
  }
  const auto entry = find_entry(request.id);
  if (entry == entries_.end()) {
    if (entries_.size() >= kMost) return refuse(Refusal::Kind::too_many, "there are too many reservations");
    return open(request);
  }
  return refuse(
      Refusal::Kind::taken,
      fmt::format("{} is reserved by {}: who asks again for the same sends the same request_id, and "
                  "who extends or releases it its token",
                  request.id, entry->record.wish.owner));
}

ReservationBook::Entries::iterator ReservationBook::open(const ReservationRequest& request) {
  // The engine knows a new wish of an id by its deadline, so no two are the same: by nanoseconds that nobody
  // misses.
  constexpr std::uint64_t kDifferent = 1000;
  const auto different = std::chrono::nanoseconds(asked_++ % kDifferent);
  return entries_.insert(
      entries_.end(),
      {.record = {
           .wish = request,
           .since = clock_.now(),
           .number = asked_,
           .token = new_token(),
           .deadline = clock_.now() + request.within + different,
           .deadline_wall = clock_.wall() + std::chrono::duration_cast<WallTime::duration>(request.within)}});
}

void ReservationBook::wait_with(Entries::iterator entry, Waiter waiter, News& news) {
  if (!entry->changes.empty()) return entry->changes.back().waiters.push_back(std::move(waiter));
  if (!entry->granted()) return entry->waiters.push_back(std::move(waiter));
  Told told{.waiters = {}, .outcome = {.kind = Kind::granted, .record = entry->record, .reason = {}}};
  told.waiters.push_back(std::move(waiter));
  news.answers.push_back(std::move(told));
}

void ReservationBook::withdraw(const void* caller) {
  const auto is_callers = [&](const Waiter& waiter) { return waiter.caller == caller; };
  News news;  // of nobody: what ends has no waiters
  const MutexLock lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    std::size_t waited = std::erase_if(entry->waiters, is_callers);
    for (Change& each : entry->changes) waited += std::erase_if(each.waiters, is_callers);
    if (waited == 0 || entry->granted() || entry->is_waited_for()) {
      ++entry;
      continue;
    }
    if (!entry->changes.empty()) revise();
    entry =
        end(entry, {.kind = Kind::released, .record = {}, .reason = "it was withdrawn: nobody waited for it"},
            news);
  }
}

ReservationBook::Answer<void> ReservationBook::extend(const std::string& id, const Claim& claim,
                                                      std::optional<std::chrono::nanoseconds> lease,
                                                      Tell tell_caller) {
  return renew(id, claim, false, lease, std::move(tell_caller));
}

ReservationBook::Answer<void> ReservationBook::commit(const std::string& id, const Claim& claim,
                                                      std::optional<std::chrono::nanoseconds> lease,
                                                      Tell tell_caller) {
  return renew(id, claim, true, lease, std::move(tell_caller));
}

ReservationBook::Answer<void> ReservationBook::renew(const std::string& id, const Claim& claim, bool commit,
                                                     std::optional<std::chrono::nanoseconds> lease,
                                                     Tell tell_caller) {
  News news;
  std::optional<ReservationOutcome> ended;
  {
    const MutexLock lock(mutex_);
    const auto entry = claimed(id, claim, ended);
    if (!entry && !ended) return std::unexpected(entry.error());
    if (ended && !(commit && ended->kind == Kind::joined))
      return refuse(Refusal::Kind::wrong_state, fmt::format("it has ended: {}", ended->reason));
    if (entry) {
      if ((*entry)->goes()) return refuse(Refusal::Kind::wrong_state, "it is being released");
      ReservationRecord as = (*entry)->newest();
      if (!as.is_granted()) return refuse(Refusal::Kind::wrong_state, "it is not granted yet");
      if (lease) as.wish.lease = *lease;
      as.committed |= commit;
      std::list<Waiter> waiters;
      waiters.push_back({nullptr, std::exchange(tell_caller, {})});
      grant(*entry, as, std::move(waiters), news);
    }
  }
  tell(news);
  if (ended) tell_caller(*ended);
  return {};
}

ReservationBook::Answer<void> ReservationBook::release(const std::string& id, const Claim& claim,
                                                       Tell tell_caller) {
  News news;
  std::optional<ReservationOutcome> ended;
  {
    const MutexLock lock(mutex_);
    const auto entry = claimed(id, claim, ended);
    if (!entry && !ended) return std::unexpected(entry.error());
    if (ended && ended->kind == Kind::joined && ended->record.is_granted())
      return refuse(Refusal::Kind::wrong_state, "its guest has come, and has the memory");
    if (ended && keep_ && kept_ != revision_) {
      // That it has ended may not be on the disk yet: who is told so before a kill would find it there again.
      late_.push_back(
          {.revision = revision_,
           .waiter = {nullptr, std::exchange(tell_caller, {})},
           .outcome = {.kind = Kind::released, .record = ended->record, .reason = ended->reason}});
      keep_();
      ended.reset();
    } else if (entry) {
      Change gone{.kind = Kind::released, .record = (*entry)->newest()};
      gone.waiters.push_back({nullptr, std::exchange(tell_caller, {})});
      if (gone.record.is_granted()) {
        change(*entry, std::move(gone), news);
      } else {
        (*entry)->waiters.splice((*entry)->waiters.end(), gone.waiters);
        end(*entry, {.kind = Kind::released, .record = {}, .reason = "it was released"}, news);
      }
    }
  }
  tell(news);
  if (ended) tell_caller({.kind = Kind::released, .record = ended->record, .reason = ended->reason});
  if (listener_) listener_();
  return {};
}

/// A token of one that has ended means that one, though the id may be another's by now.
ReservationBook::Answer<ReservationBook::Entries::iterator> ReservationBook::claimed(
    const std::string& id, const Claim& claim, std::optional<ReservationOutcome>& ended) {
  const auto entry = find_entry(id);
  if (entry != entries_.end()) {
    const std::string& token = entry->record.token;
    if (claim.force || token.empty() || same_token(token, claim.token)) return entry;
  }
  const EndedReservation* known = claim.token.empty() ? nullptr : ended_.find(id, claim.token);
  if (known == nullptr && entry != entries_.end()) return refuse_stranger(entry->record);
  if (known == nullptr) known = ended_.find(id);
  if (known == nullptr) return refuse_unknown();
  const ReservationRecord& record = known->outcome.record;
  if (!claim.force && !record.token.empty() && !same_token(record.token, claim.token))
    return refuse_stranger(record);
  ended = known->outcome;
  return refuse_unknown();
}

std::vector<ReservationRecord> ReservationBook::list() const {
  const MutexLock lock(mutex_);
  std::vector<ReservationRecord> records;
  records.reserve(entries_.size());
  for (const Entry& entry : entries_) records.push_back(entry.record);
  return records;
}

std::optional<ReservationRecord> ReservationBook::find(const std::string& id) const {
  const MutexLock lock(mutex_);
  const auto entry = std::ranges::find(
      entries_, id, [](const Entry& each) -> const std::string& { return each.record.wish.id; });
  if (entry == entries_.end()) return std::nullopt;
  return entry->record;
}

std::optional<EndedReservation> ReservationBook::find_ended(const std::string& id) const {
  const MutexLock lock(mutex_);
  const EndedReservation* const ended = ended_.find(id);
  if (ended == nullptr) return std::nullopt;
  return *ended;
}

ReservationBook::Entries::iterator ReservationBook::find_entry(std::string_view id) {
  return std::ranges::find(entries_, id,
                           [](const Entry& entry) -> std::string_view { return entry.record.wish.id; });
}

}  // namespace balloon::daemon
