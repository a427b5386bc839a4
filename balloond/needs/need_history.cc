// SPDX-License-Identifier: Apache-2.0
#include "balloond/needs/need_history.h"

#include <algorithm>
#include <utility>

namespace balloon::daemon {
namespace {

constexpr double k95 = 0.95;
constexpr double k99 = 0.99;
constexpr std::chrono::days kRecent{kNeedWindows.back().days_before};

/// Its driver says what it uses, so that its need is no guess.
bool is_known(const GuestStatus& guest) {
  return guest.record.connected && guest.plan.why.source == policy::Source::statistics;
}

}  // namespace

void NeedHistory::observe(const State& state) {
  const MutexLock lock(mutex_);
  const auto before = std::exchange(observed_at_, state.at);
  if (!before || state.at <= *before) return;
  const auto elapsed = std::min(state.at - *before, kGapMax);
  const Day today = std::chrono::floor<std::chrono::days>(state.wall);
  if (today != today_) begin_day(today);
  made_room_ = false;
  for (const GuestStatus& guest : state.guests) {
    if (!is_known(guest)) continue;
    NeedHistogram* const histogram = histogram_of(guest.record.name, today);
    if (histogram == nullptr || histogram->seconds() >= kSecondsOfDay) continue;
    std::chrono::nanoseconds& rest = guests_.at(guest.record.name).rest;
    const auto whole = std::chrono::floor<std::chrono::seconds>(rest + elapsed);
    rest += elapsed - whole;
    histogram->add(guest.plan.need, static_cast<std::uint32_t>(whole.count()));
    changed_.insert(today);
  }
}

NeedHistogram* NeedHistory::histogram_of(const std::string& name, Day day) {
  auto guest = guests_.find(name);
  if (guest != guests_.end()) {
    if (const auto known = guest->second.recent.find(day); known != guest->second.recent.end())
      return &known->second;
  }
  // To find who makes room takes a look at all: newcomers in a storm have their turns one by one.
  std::size_t& count = count_[day];
  const bool full = count >= kGuestsOfDay;
  const bool too_many = guest == guests_.end() && guests_.size() >= kGuests;
  if ((full || too_many) && std::exchange(made_room_, true)) return nullptr;
  if (full) leave_one_out(day);
  if (guest == guests_.end() && guests_.size() >= kGuests && !forget_one(day)) return nullptr;
  guest = guests_.try_emplace(name).first;
  ++count_[day];
  return &guest->second.recent[day];
}

void NeedHistory::leave_one_out(Day day) {
  auto least = guests_.end();
  std::uint64_t seconds = ~std::uint64_t{0};
  for (auto each = guests_.begin(); each != guests_.end(); ++each) {
    const auto histogram = each->second.recent.find(day);
    if (histogram == each->second.recent.end() || histogram->second.seconds() >= seconds) continue;
    seconds = histogram->second.seconds();
    least = each;
  }
  if (least != guests_.end()) drop(least, day);
}

bool NeedHistory::forget_one(Day today) {
  const auto last_day = [](const auto& guest) { return guest.second.last_day(); };
  const auto oldest = std::ranges::min_element(guests_, {}, last_day);
  if (oldest == guests_.end() || oldest->second.last_day() >= today) return false;
  while (!oldest->second.recent.empty() && oldest->second.recent.size() + oldest->second.older.size() > 1)
    drop(oldest, oldest->second.recent.begin()->first);
  if (!oldest->second.recent.empty()) --count_[oldest->second.recent.begin()->first];
  guests_.erase(oldest);
  return true;
}

void NeedHistory::drop(std::map<std::string, Guest>::iterator guest, Day day) {
  if (guest->second.recent.erase(day) > 0) --count_[day];
  if (guest->second.recent.empty() && guest->second.older.empty()) guests_.erase(guest);
}

bool NeedHistory::is_recent(Day day, Day today) { return day >= today - kRecent; }

void NeedHistory::begin_day(Day today) {
  today_ = today;
  for (auto& [name, guest] : guests_) {
    while (!guest.recent.empty() && !is_recent(guest.recent.begin()->first, today)) {
      const auto& [day, histogram] = *guest.recent.begin();
      if (histogram.seconds() > 0) guest.older.push_back(old_of(day, histogram));
      guest.recent.erase(guest.recent.begin());
    }
    const std::size_t too_many = guest.older.size() > kDays ? guest.older.size() - kDays : 0;
    guest.older.erase(guest.older.begin(), guest.older.begin() + static_cast<std::ptrdiff_t>(too_many));
  }
  std::erase_if(guests_,
                [](const auto& guest) { return guest.second.recent.empty() && guest.second.older.empty(); });
  std::erase_if(count_, [today](const auto& day) { return !is_recent(day.first, today); });
}

void NeedHistory::restore(const DayOfNeeds& kept) {
  const MutexLock lock(mutex_);
  if (today_ == Day()) today_ = std::chrono::floor<std::chrono::days>(clock_.wall());
  for (const auto& [name, histogram] : kept.guests) {
    made_room_ = true;  // what was kept makes no room for itself: the newest days come first
    if (is_recent(kept.day, today_)) {
      if (NeedHistogram* const into = histogram_of(name, kept.day)) into->add(histogram);
      continue;
    }
    if (!guests_.contains(name) && guests_.size() >= kGuests) continue;
    std::vector<OldDay>& older = guests_[name].older;
    const auto at = std::ranges::lower_bound(older, kept.day, {}, &OldDay::day);
    if (older.size() < kDays && (at == older.end() || at->day != kept.day))
      older.insert(at, old_of(kept.day, histogram));
  }
}

std::vector<DayOfNeeds> NeedHistory::take_changed() {
  const MutexLock lock(mutex_);
  std::vector<DayOfNeeds> days;
  for (const Day day : std::exchange(changed_, {})) {
    DayOfNeeds& taken = days.emplace_back(DayOfNeeds{.day = day});
    for (const auto& [name, guest] : guests_) {
      const auto histogram = guest.recent.find(day);
      if (histogram != guest.recent.end() && histogram->second.seconds() > 0)
        taken.guests.emplace(name, histogram->second);
    }
  }
  return days;
}

void NeedHistory::not_kept(Day day) {
  const MutexLock lock(mutex_);
  changed_.insert(day);
}

NeedHistory::OldDay NeedHistory::old_of(Day day, const NeedHistogram& histogram) {
  const auto part = [&](double which) {
    return NeedHistogram::size_of(histogram.percentile(which).value_or(Bytes{}));
  };
  return {.day = day,
          .seconds = static_cast<std::uint32_t>(histogram.seconds()),
          .p95 = part(k95),
          .p99 = part(k99),
          .max = NeedHistogram::size_of(histogram.max())};
}

NeedFigures NeedHistory::figures_of(const NeedHistogram& histogram) {
  return {.observed = std::chrono::seconds(histogram.seconds()),
          .p95 = histogram.percentile(k95).value_or(Bytes{}),
          .p99 = histogram.percentile(k99).value_or(Bytes{}),
          .max = histogram.max()};
}

NeedFigures NeedHistory::figures_of(const OldDay& day) {
  return {.observed = std::chrono::seconds(day.seconds),
          .p95 = NeedHistogram::bound(day.p95),
          .p99 = NeedHistogram::bound(day.p99),
          .max = NeedHistogram::bound(day.max)};
}

NeedsByWindow NeedHistory::by_window(const Guest& guest, Day today) {
  NeedsByWindow needs;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    NeedHistogram whole;
    const Day first = today - std::chrono::days(kNeedWindows[i].days_before);
    for (auto each = guest.recent.lower_bound(first); each != guest.recent.upper_bound(today); ++each)
      whole.add(each->second);
    needs[i] = figures_of(whole);
  }
  return needs;
}

/// One guest at a time is looked at with the history locked.
void NeedHistory::renew() {
  auto fresh = std::make_shared<std::map<std::string, NeedsByWindow>>();
  const Day today = std::chrono::floor<std::chrono::days>(clock_.wall());
  std::string last;
  while (true) {
    Guest guest;
    {
      const MutexLock lock(mutex_);
      const auto next = guests_.upper_bound(last);
      if (next == guests_.end()) break;
      last = next->first;
      guest.recent = next->second.recent;
    }
    const NeedsByWindow needs = by_window(guest, today);
    if (needs.back().observed.count() > 0) fresh->emplace(last, needs);
  }
  const MutexLock lock(mutex_);
  figures_ = std::move(fresh);
}

std::shared_ptr<const std::map<std::string, NeedsByWindow>> NeedHistory::figures() const {
  const MutexLock lock(mutex_);
  return figures_;
}

std::vector<std::pair<Day, NeedFigures>> NeedHistory::days_of(const std::string& guest) const {
  const MutexLock lock(mutex_);
  std::vector<std::pair<Day, NeedFigures>> days;
  const auto known = guests_.find(guest);
  if (known == guests_.end()) return days;
  for (const OldDay& each : known->second.older) days.emplace_back(each.day, figures_of(each));
  for (const auto& [day, histogram] : known->second.recent) {
    if (histogram.seconds() > 0) days.emplace_back(day, figures_of(histogram));
  }
  return days;
}

}  // namespace balloon::daemon
