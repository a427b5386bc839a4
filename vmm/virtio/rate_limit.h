// SPDX-License-Identifier: Apache-2.0
// Keeps a guest from flooding the log.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

namespace balloon::vmm {

class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;
  /// One line in this time tells that something goes on; more would tell nothing new.
  static constexpr std::chrono::seconds kPeriod{10};

  /// How many times it happened since the last line, when a line may be written now; nothing otherwise.
  std::optional<std::uint64_t> happened(Clock::time_point now = Clock::now()) {
    ++count_;
    if (last_ && now - *last_ < kPeriod) return std::nullopt;
    last_ = now;
    return std::exchange(count_, 0);
  }

 private:
  std::optional<Clock::time_point> last_;
  std::uint64_t count_ = 0;
};

}  // namespace balloon::vmm
