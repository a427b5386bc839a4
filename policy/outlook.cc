// SPDX-License-Identifier: Apache-2.0
#include "policy/outlook.h"

#include <algorithm>
#include <cmath>

#include "policy/rate.h"

namespace balloon::policy {
namespace {

Bytes sum(std::span<const Consumer> consumers, Level level) {
  Bytes all{};
  for (const Consumer& consumer : consumers) all = add(all, consumer.levels[level]);
  return all;
}

}  // namespace

Bytes Outlook::guaranteed() const { return sum(guests(), Level::minimum); }

Bytes Outlook::promised() const { return sum(std::span(consumers).subspan(givers.size()), Level::minimum); }

Bytes Outlook::most() const { return above(supply.budget, add(guaranteed(), promised())); }

Bytes Outlook::deficit() const { return above(add(guaranteed(), promised()), supply.budget); }

Bytes Outlook::reclaimable(std::chrono::nanoseconds time) const {
  double all = 0;
  for (std::size_t i = 0; i < givers.size(); ++i) {
    const Bytes spare = above(givers[i].size, consumers[i].levels[Level::working_set]);
    all += std::min(static_cast<double>(spare), givers[i].speed * seconds(time));
  }
  return static_cast<Bytes>(all);
}

FitCheck::FitCheck(const Outlook& outlook) : outlook_(outlook), consumers_(outlook.consumers) {
  allocation_.share(consumers_, outlook.groups, outlook.supply.budget, outlook.headroom, outlook.surplus);
  const auto shares = allocation_.shares().first(outlook.givers.size());
  shares_.assign(shares.begin(), shares.end());
  for (std::size_t i = 0; i < shares_.size(); ++i)
    shares_[i] = std::min(shares_[i], outlook.givers[i].share_max);
}

FitAnswer FitCheck::check(Bytes min, Bytes max, std::uint32_t priority, std::chrono::nanoseconds within) {
  const Supply& supply = outlook_.supply;
  Reservation wish{.id = {}, .min = min, .max = max, .priority = priority, .deadline = Time(1) + within};
  const Time now(1);  // Time() is no deadline
  const double guaranteed = sum_of_minimums(outlook_.guests());
  const double promised = sum_of_minimums(std::span(outlook_.consumers).subspan(outlook_.givers.size()));
  FitAnswer answer;
  if (!is_possible(wish, Bytes{0}, now, supply, guaranteed + promised)) {
    wish.deadline = {};
    answer.too_large = !is_possible(wish, Bytes{0}, now, supply, guaranteed + promised);
    return answer;
  }
  const Levels levels = levels_of(wish, supply, promised, outlook_.guests());
  if (supply.free >= min) {
    answer.fit = Fit::now;
  } else if (levels[Level::minimum] < min) {
    answer.fit = Fit::waits;
  } else {
    answer.fit = Fit::after_reclaim;
    const double missing = static_cast<double>(min - supply.free);
    answer.ready_in =
        std::chrono::nanoseconds(static_cast<std::int64_t>(std::ceil(missing / supply.speed * 1e9)));
  }
  consumers_.push_back({.levels = levels, .weight = std::max<std::uint32_t>(priority, 1)});
  allocation_.share(consumers_, outlook_.groups, supply.budget, outlook_.headroom, outlook_.surplus);
  consumers_.pop_back();
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const Bytes to = std::min(allocation_.shares()[i], outlook_.givers[i].share_max);
    if (to < shares_[i] && outlook_.givers[i].speed > 0)
      answer.squeezed.push_back({.guest = i, .from = shares_[i], .to = to});
  }
  std::ranges::stable_sort(answer.squeezed, std::ranges::greater(),
                           [](const Squeeze& each) { return each.from - each.to; });
  return answer;
}

}  // namespace balloon::policy
