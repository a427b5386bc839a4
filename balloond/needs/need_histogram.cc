// SPDX-License-Identifier: Apache-2.0
#include "balloond/needs/need_histogram.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace balloon::daemon {
namespace {

constexpr Bytes kSmallest = 16 * kMiB;
constexpr double kStepsOfOctave = 12;

std::array<Bytes, NeedHistogram::kSizes> make_bounds() {
  std::array<Bytes, NeedHistogram::kSizes> bounds{};
  for (std::size_t i = 0; i < bounds.size(); ++i)
    bounds[i] = static_cast<Bytes>(
        std::round(static_cast<double>(kSmallest) * std::exp2(static_cast<double>(i) / kStepsOfOctave)));
  return bounds;
}

const std::array<Bytes, NeedHistogram::kSizes>& bounds() {
  static const auto kBounds = make_bounds();
  return kBounds;
}

}  // namespace

std::uint16_t NeedHistogram::size_of(Bytes bytes) {
  const auto at = std::ranges::lower_bound(bounds(), bytes) - bounds().begin();
  return static_cast<std::uint16_t>(std::min<std::ptrdiff_t>(at, kSizes - 1));
}

Bytes NeedHistogram::bound(std::uint16_t size) { return bounds().at(size); }

void NeedHistogram::add(Bytes need, std::uint32_t seconds) {
  if (seconds == 0) return;
  max_ = std::max(max_, need);
  put(size_of(need), seconds);
}

void NeedHistogram::add(const NeedHistogram& other) {
  max_ = std::max(max_, other.max_);
  for (const Bucket& each : other.buckets_) put(each.size, each.seconds);
}

void NeedHistogram::put(std::uint16_t size, std::uint32_t seconds) {
  seconds_ += seconds;
  const auto at = std::ranges::lower_bound(buckets_, size, {}, &Bucket::size);
  if (at != buckets_.end() && at->size == size) {
    at->seconds += seconds;
  } else {
    buckets_.insert(at, {.size = size, .seconds = seconds});
  }
}

std::optional<Bytes> NeedHistogram::percentile(double part) const {
  if (buckets_.empty()) return std::nullopt;
  const double wanted = part * static_cast<double>(seconds_);
  double below = 0;
  for (const Bucket& each : buckets_) {
    below += each.seconds;
    if (below >= wanted) return std::min(bound(each.size), max_);
  }
  return max_;
}

std::optional<NeedHistogram> NeedHistogram::from(const std::vector<Bucket>& buckets, Bytes max) {
  NeedHistogram made;
  for (const Bucket& each : buckets) {
    const bool rises = made.buckets_.empty() || each.size > made.buckets_.back().size;
    if (!rises || each.size >= kSizes || each.seconds == 0) return std::nullopt;
    made.put(each.size, each.seconds);
  }
  if (made.buckets_.empty() || size_of(max) != made.buckets_.back().size) return std::nullopt;
  made.max_ = max;
  return made;
}

}  // namespace balloon::daemon
