// SPDX-License-Identifier: Apache-2.0
#include "base/rate_limit.h"

#include <algorithm>
#include <utility>

namespace balloon {
namespace {

/// Sources without end must not cost a look at all of them each time.
constexpr std::chrono::seconds kTidyEvery{1};

}  // namespace

double TokenBucket::level(Rate rate, Time now) const {
  const double elapsed = std::chrono::duration<double>(now - at_).count();
  return std::min(rate.burst, tokens_ + std::max(elapsed, 0.0) * rate.per_second);
}

bool TokenBucket::take(Rate rate, Time now) {
  tokens_ = level(rate, now);
  at_ = now;
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

bool RateLimit::take(const std::string& source, Time now, std::uint64_t& refused) {
  Source& known = find(source, now);
  if (!known.bucket.take(each_, now) || !together_.take(all_, now)) {
    ++known.refused;
    return false;
  }
  refused = std::exchange(known.refused, 0);
  return true;
}

RateLimit::Source& RateLimit::find(const std::string& source, Time now) {
  if (const auto known = sources_.find(source); known != sources_.end()) return known->second;
  if (sources_.size() >= kSourcesMax && now - tidied_ >= kTidyEvery) {
    tidied_ = now;
    std::erase_if(sources_, [&](const auto& each) {
      return each.second.refused == 0 && each.second.bucket.is_full(each_, now);
    });
  }
  if (sources_.size() >= kSourcesMax) return others_;
  return sources_.try_emplace(source, Source{.bucket = {each_, now}}).first->second;
}

}  // namespace balloon
