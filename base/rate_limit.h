// SPDX-License-Identifier: Apache-2.0
// How much of something each source may cause: a burst, and then so much a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <unordered_map>

namespace balloon {

struct Rate {
  double burst = 0;
  double per_second = 0;
};

/// One source's allowance, full at first.
class TokenBucket {
 public:
  using Time = std::chrono::steady_clock::time_point;

  TokenBucket(Rate rate, Time now) : tokens_(rate.burst), at_(now) {}
  bool take(Rate rate, Time now);
  bool is_full(Rate rate, Time now) const { return level(rate, now) >= rate.burst; }

 private:
  double level(Rate rate, Time now) const;

  double tokens_;
  Time at_;
};

/// An allowance for each source, and one for all of them together. Not thread-safe.
class RateLimit {
 public:
  using Time = TokenBucket::Time;

  RateLimit(Rate each, Rate all, Time now)
      : each_(each), all_(all), together_(all, now), others_{.bucket = {each, now}} {}
  /// Whether `source` may once more. What it was refused since it last might is put into `refused`.
  bool take(const std::string& source, Time now, std::uint64_t& refused);

  /// Sources that are told apart at once; those beyond share one allowance.
  static constexpr std::size_t kSourcesMax = 4096;

 private:
  struct Source {
    TokenBucket bucket;
    std::uint64_t refused = 0;
  };
  Source& find(const std::string& source, Time now);

  const Rate each_;
  const Rate all_;
  TokenBucket together_;
  Source others_;
  std::unordered_map<std::string, Source> sources_;
  Time tidied_{};  ///< when sources that have all their allowance were forgotten last
};

}  // namespace balloon
