// SPDX-License-Identifier: Apache-2.0
// How often which values came, for metrics. Observed and read from any thread, without a lock.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace balloon {

class Histogram {
 public:
  /// `bounds`: upper bounds of the buckets, rising. It lives as long as this does: a constant.
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}

  void observe(double value) {
    const auto bucket = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
    counts_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }

  std::span<const double> bounds() const { return bounds_; }
  /// Of each bucket, and at the end of what is above all bounds; not cumulative.
  std::vector<std::uint64_t> counts() const {
    std::vector<std::uint64_t> counts;
    for (const auto& each : counts_) counts.push_back(each.load(std::memory_order_relaxed));
    return counts;
  }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::span<const double> bounds_;
  std::vector<std::atomic<std::uint64_t>> counts_;
  std::atomic<double> sum_{0};
};

}  // namespace balloon
