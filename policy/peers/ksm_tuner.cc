// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/ksm_tuner.h"

#include <algorithm>

namespace balloon::policy::peers {
namespace {

constexpr double kBaseline = 16.0 * (1ULL << 30);

}  // namespace

KsmPlan tune_ksm(const KsmSettings& settings, const Snapshot& snapshot, double free) {
  const KsmSnapshot& now = *snapshot.host.ksm;
  const auto total = static_cast<double>(snapshot.host.total);
  const double threshold =
      std::max(settings.free_percent * total, static_cast<double>(settings.least_threshold));
  double committed =
      0;  // Σ virtual size of the guests' processes in the originals; boot memory stands for it
  for (const GuestSnapshot& guest : snapshot.guests) committed += static_cast<double>(guest.memory);

  if (total <= 0 || (threshold + committed < total && free > threshold)) {
    return {.run = false, .pages_to_scan = now.pages_to_scan, .sleep = now.sleep};
  }
  const auto before =
      static_cast<std::int64_t>(std::min(now.pages_to_scan, static_cast<std::uint64_t>(settings.most)));
  const std::int64_t pages = before + (free < threshold ? settings.boost : settings.decay);
  const auto sleep = std::chrono::milliseconds(
      static_cast<std::int64_t>(static_cast<double>(settings.sleep.count()) * kBaseline / total));
  return {.run = true,
          .pages_to_scan = static_cast<std::uint64_t>(std::clamp(pages, settings.fewest, settings.most)),
          .sleep = std::max(sleep, settings.shortest_sleep)};
}

}  // namespace balloon::policy::peers
