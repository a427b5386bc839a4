// SPDX-License-Identifier: Apache-2.0
// A rate limit: tokens flow in at a steady rate up to a burst, and each request spends some.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace balloon::vmm {

/// Requests go as long as there is a token left, and may leave a debt: so a request larger than the burst
/// passes too, and those after it wait until it is paid. On the long run the rate is met exactly.
class TokenBucket {
 public:
  using Clock = std::chrono::steady_clock;

  /// Never limits.
  TokenBucket() = default;
  /// `rate` tokens a second (0: never limits), of which `burst` (0: a tenth of a second's) may gather.
  explicit TokenBucket(std::uint64_t rate, std::uint64_t burst = 0)
      : rate_(static_cast<double>(rate)),
        burst_(std::max(burst > 0 ? static_cast<double>(burst) : rate_ * kDefaultBurstSeconds, 1.0)),
        tokens_(burst_) {}

  bool limits() const { return rate_ > 0; }
  /// How long until a request may go; zero: now.
  std::chrono::nanoseconds wait(Clock::time_point now) {
    if (!limits()) return {};
    refill(now);
    if (tokens_ > 0) return {};
    // Until there is a whole token: with less, whoever wakes up would wait again at once.
    const double seconds = (1 - tokens_) / rate_;
    return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(seconds, kLongestWait) * 1e9) + 1);
  }
  void spend(std::uint64_t tokens) {
    if (limits()) tokens_ -= static_cast<double>(tokens);
  }

 private:
  static constexpr double kDefaultBurstSeconds =
      0.1;                                    ///< long enough for timers, short enough to feel steady
  static constexpr double kLongestWait = 60;  ///< seconds; who waits looks again then

  void refill(Clock::time_point now) {
    const std::chrono::duration<double> passed = now - last_;
    if (last_ != Clock::time_point{}) tokens_ = std::min(burst_, tokens_ + passed.count() * rate_);
    last_ = now;
  }

  double rate_ = 0;
  double burst_ = 0;
  double tokens_ = 0;
  Clock::time_point last_{};
};

}  // namespace balloon::vmm
